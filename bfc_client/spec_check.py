"""The check of a spec before it travels: the server's own models, the server's form of complaint."""

from typing import TypeVar

from pydantic import ValidationError

from bfc_client.errors import InvalidSpec, SpecError
from bfc_core.specs import Spec, faults_of

Checked = TypeVar("Checked", bound=Spec)


def checked_spec(document: object, kind: type[Checked]) -> Checked:
    """The document as a spec of a kind, an ExperimentSpec for instance.

    Raises:
        InvalidSpec: with one entry for each fault, in the order of the document.
    """
    if isinstance(document, kind):
        return document
    try:
        return kind.model_validate(document)
    except ValidationError as refusal:
        raise InvalidSpec(
            tuple(
                SpecError(pointer=fault.pointer, code=fault.code, detail=fault.detail)
                for fault in faults_of(refusal, document)
            )
        ) from None
