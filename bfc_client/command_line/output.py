"""What the command prints where, and with which exit code it ends."""

import json
import sys
from enum import IntEnum
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from bfc_client.answers import ExperimentStatus
from bfc_client.errors import (
    BadRequest,
    BfcApiError,
    BfcClientError,
    BodyTooLarge,
    Conflict,
    InvalidSettings,
    InvalidSpec,
    NotAllowed,
    NotFound,
    ServerFailed,
    ServerNotFound,
    ServerUnreachable,
    SpecError,
    TooManyRequests,
    UnexpectedAnswer,
    Unprocessable,
)


class ExitCode(IntEnum):
    """How the command ended."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    RUN_FAILED = 5
    UNREACHABLE = 6
    INTERRUPTED = 130


_CORRECT_IT = "correct the named places and submit again; --dry-run shows the cost without starting anything"
_ADVICE: dict[type[BfcClientError], str] = {
    InvalidSpec: _CORRECT_IT,
    BadRequest: _CORRECT_IT,
    Unprocessable: _CORRECT_IT,
    BodyTooLarge: "a spec holds at most 1 MiB; split it into several experiments",
    NotFound: "`bfc ls` lists what there is",
    NotAllowed: "set BFC_TOKEN to a key that may do this",
    TooManyRequests: "the server is busy; try again later",
    ServerUnreachable: "check BFC_URL, or start a stack with `bfc up`; `bfc doctor` looks for the cause",
    UnexpectedAnswer: "check BFC_URL",
    ServerFailed: "this is a fault of the server; its log names the request",
}


class CommandRefused(BfcClientError):
    """The command cannot do what was asked; it ends with ``code``."""

    def __init__(self, sentence: str, code: ExitCode = ExitCode.ERROR) -> None:
        self.exit_code = code
        super().__init__(sentence)


def to_stderr(text: str) -> None:
    """One line for the person, not for the pipe."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(text, markup=False)


def to_stdout(text: str) -> None:
    """One line of data."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def json_to_stdout(content: BaseModel | dict[str, Any] | list[Any], *, on_one_line: bool = False) -> None:
    """Data as a JSON document."""
    plain = content.model_dump(mode="json") if isinstance(content, BaseModel) else content
    to_stdout(json.dumps(plain, ensure_ascii=False, indent=None if on_one_line else 2))


def table_to_stdout(table: Table) -> None:
    """A table for reading. A pipe gets every column in full; a terminal gets what fits."""
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, width=max(200, console.width))
    console.print(table)


def exit_code_of(error: BfcClientError) -> ExitCode:
    """The exit code that stands for an error."""
    match error:
        case CommandRefused():
            return error.exit_code
        case InvalidSpec() | InvalidSettings() | BadRequest() | BodyTooLarge() | Unprocessable():
            return ExitCode.USAGE
        case NotFound():
            return ExitCode.NOT_FOUND
        case Conflict():
            return ExitCode.CONFLICT
        case ServerNotFound() | ServerUnreachable():
            return ExitCode.UNREACHABLE
        case _:
            return ExitCode.ERROR


def exit_code_of_status(status: ExperimentStatus) -> ExitCode:
    """The exit code of a command that has watched an experiment to its end."""
    return ExitCode.OK if status is ExperimentStatus.SUCCEEDED else ExitCode.RUN_FAILED


def print_error(error: BfcClientError) -> None:
    """An error in words: what is wrong, where in the document, and what to do."""
    match error:
        case InvalidSpec():
            to_stderr("bfc: the spec is not valid; nothing was sent")
            _print_places(error.errors)
        case BfcApiError():
            to_stderr(f"bfc: {error.problem.detail or error.problem.title}")
            _print_places(error.errors)
        case _:
            to_stderr(f"bfc: {error}")
    if isinstance(error, BfcApiError) and error.request_id:
        to_stderr(f"  request {error.request_id}")
    for kind, advice in _ADVICE.items():
        if isinstance(error, kind):
            to_stderr(f"  → {advice}")


def _print_places(errors: tuple[SpecError, ...]) -> None:
    for error in errors:
        to_stderr(f"  at {error.pointer}: {error.detail}")
