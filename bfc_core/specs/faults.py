"""What is wrong with a document that is no spec, and where: one form of complaint for every door.

The HTTP API, the client and ``python -m bfc_core`` all refuse through :func:`faults_of`, so that a document is
called wrong in the same places and words wherever it is shown first. Not a validator: pydantic has judged already.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

WORDS = {"valid tuple": "valid array", "valid dictionary": "valid object", "Value error, ": ""}
"""pydantic speaks Python, the document is JSON."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong; ``pointer`` is an RFC 6901 pointer as URI fragment, "#/n/0"."""

    pointer: str
    code: str
    detail: str


def faults_of(refusal: ValidationError, document: object) -> list[Fault]:
    """Every fault that pydantic found in ``document``, in the order of the document."""
    return faults_from(refusal.errors(include_url=False, include_context=False), document)


def faults_from(errors: Iterable[Mapping[str, Any]], document: object) -> list[Fault]:
    """The same, from pydantic's list of errors."""
    found = list(errors)
    return [
        Fault(pointer_to(document, error), error["type"], _in_json_words(error["msg"]))
        for error in found
        if not _is_an_echo(error, found)
    ]


def pointer_to(document: object, error: Mapping[str, Any]) -> str:
    """Where in the document an error of pydantic stands.

    Pydantic puts the tag of a union into the location (``target``, ``hierarchical_quadratic``, ``widths``); a
    pointer names only what stands in the document. A name that is not there is kept where it is the last: it is
    the field that is missing. A wrong or missing tag is a fault of the field ``kind``.
    """
    location: tuple[int | str, ...] = error["loc"]
    pointer = "#"
    here: Any = document
    for position, part in enumerate(location):
        if _holds(here, part):
            here = here[part]
        elif position < len(location) - 1 or not isinstance(here, Mapping) or here.get("kind") == part:
            continue
        pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
    if error["type"].startswith("union_tag_") and isinstance(here, Mapping):
        pointer += "/kind"
    return pointer


def _in_json_words(message: str) -> str:
    for python, json in WORDS.items():
        message = message.replace(python, json)
    return message


def _is_an_echo(error: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> bool:
    """Pydantic calls an array too short once its faulty items are gone; the items are the fault."""
    location = error["loc"]
    return error["type"] == "too_short" and any(
        len(other["loc"]) > len(location) and other["loc"][: len(location)] == location for other in found
    )


def _holds(container: object, part: int | str) -> bool:
    if isinstance(container, Mapping):
        return part in container
    return isinstance(container, list | tuple) and isinstance(part, int) and part < len(container)
