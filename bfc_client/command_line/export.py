"""Result tables and charts as files."""

import sys
from enum import StrEnum
from pathlib import Path

from bfc_client.command_line.output import CommandRefused, ExitCode
from bfc_client.experiment import Experiment


class ExportFormat(StrEnum):
    """What a result can be written as."""

    CSV = "csv"
    PARQUET = "parquet"
    NDJSON = "ndjson"
    SVG = "svg"


def format_of(form: ExportFormat | None, output: Path | None) -> ExportFormat:
    """The format that was named, or else the ending of the file, or else CSV.

    Raises:
        CommandRefused: the ending stands for no format.
    """
    if form is not None:
        return form
    if output is None:
        return ExportFormat.CSV
    try:
        return ExportFormat(output.suffix.removeprefix("."))
    except ValueError as error:
        known = ", ".join(ExportFormat)
        raise CommandRefused(
            f"{output} does not end in one of {known}; name one with --format", ExitCode.USAGE
        ) from error


def exported(experiment: Experiment, form: ExportFormat, chart: str) -> bytes:
    """The bytes of the file."""
    if form is ExportFormat.SVG:
        return experiment.chart(chart).svg().encode()
    return experiment.export(form.value)


def write_export(content: bytes, output: Path | None) -> None:
    """Write to a file, or to standard output.

    Raises:
        CommandRefused: the file cannot be written.
    """
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise CommandRefused(f"cannot write {output}: {error.strerror}") from error
