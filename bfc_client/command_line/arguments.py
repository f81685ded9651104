"""Arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

EXPERIMENT_HELP = "an id, the first letters of one, or 'latest'"

ExperimentName = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help=EXPERIMENT_HELP, show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
DataDir = Annotated[Path | None, typer.Option(help="folder of the stack [default: BFC_DATA_DIR, or var]")]
