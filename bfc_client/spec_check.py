"""The check of a spec before it travels: the server's own models, the server's form of complaint."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bfc_client.errors import InvalidSpec, SpecError
from bfc_core.specs import ExperimentSpec


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
        errors = [
            SpecError(
                pointer=pointer_to(document, error["loc"]),
                code=error["type"],
                detail=error["msg"].removeprefix("Value error, "),
            )
            for error in refusal.errors(include_url=False, include_context=False)
        ]
        raise InvalidSpec(tuple(error for error in errors if not _is_an_echo(error, errors))) from None


def pointer_to(document: object, location: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901, as URI fragment) to a pydantic location.

    Pydantic puts the tag of a union into the location (``target``, ``hierarchical_quadratic``,
    ``widths``); a pointer names only what stands in the document. A name that is not there is kept
    where it is the last: it is the field that is missing.
    """
    pointer = "#"
    here: Any = document
    for position, part in enumerate(location):
        if _holds(here, part):
            here = here[part]
        elif position < len(location) - 1 or not isinstance(here, Mapping) or here.get("kind") == part:
            continue
        pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
    return pointer


def _is_an_echo(error: SpecError, errors: list[SpecError]) -> bool:
    """Pydantic calls a list too short once its faulty entries are gone; the entries are the fault."""
    return error.code == "too_short" and any(
        other.pointer.startswith(f"{error.pointer}/") for other in errors
    )


def _holds(container: object, part: int | str) -> bool:
    if isinstance(container, Mapping):
        return part in container
    return isinstance(container, list | tuple) and isinstance(part, int) and part < len(container)
