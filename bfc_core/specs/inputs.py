"""Input laws: where x comes from."""

from typing import Annotated, Literal

from pydantic import Field

from bfc_core.specs.base import Spec


class GaussianInputs(Spec):
    """x ~ N(0, I): isotropic, hypercontractive and degree-preserving (arXiv:2001.04413 §3)."""

    kind: Literal["gaussian"]


# A one-member union keeps the tag in the schema, so that a second law is not a breaking change.
InputSpec = Annotated[GaussianInputs, Field(title="InputSpec")]
