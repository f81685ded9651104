"""The check of a spec before it travels: the server's own models, the server's form of complaint."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bfc_client.errors import InvalidSpec, SpecError
from bfc_core.specs import ExperimentSpec, faults_of


def checked_spec(document: ExperimentSpec | Mapping[str, Any] | object) -> ExperimentSpec:
    """The document as a spec.

    Raises:
        InvalidSpec: with one entry for each fault, in the order of the document.
    """
    if isinstance(document, ExperimentSpec):
        return document
    try:
        return ExperimentSpec.model_validate(document)
    except ValidationError as refusal:
        raise InvalidSpec(
            tuple(
                SpecError(pointer=fault.pointer, code=fault.code, detail=fault.detail)
                for fault in faults_of(refusal, document)
            )
        ) from None
