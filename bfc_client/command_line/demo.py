"""``bfc demo``: the flagship comparison on a stack of its own, its table, and whether the paper's claim held."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bfc_client.answers import Comparison
from bfc_client.client import Client
from bfc_client.command_line.claims import Claim, claims_of
from bfc_client.command_line.output import ExitCode, table_to_stdout, to_stderr, to_stdout
from bfc_client.command_line.stack import Stack, port_for_a_stack, termination_as_interrupt
from bfc_client.command_line.tables import comparison_table, gain_line
from bfc_client.experiment import Experiment
from bfc_client.transport import Transport
from bfc_core.specs import ExperimentSpec

BASELINE = "algorithm_1"


@dataclass(frozen=True)
class DemoResult:
    """What the demo found, and where it lies."""

    experiment: Experiment
    comparison: Comparison
    claims: list[Claim]
    figure: Path
    rows: Path
    seconds: float

    @property
    def exit_code(self) -> ExitCode:
        """RUN_FAILED where a claim did not hold."""
        return ExitCode.OK if all(claim.holds for claim in self.claims) else ExitCode.RUN_FAILED


def run_demo(spec: ExperimentSpec, output: Path) -> DemoResult:
    """Start a stack in a fresh folder, run the spec, save figure and rows, stop the stack.

    The stack's folder is removed afterwards; it is kept where something went wrong, for its log.
    """
    output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="stack-", dir=output))
    started = time.monotonic()
    with termination_as_interrupt():
        to_stderr(f"starting a stack in {folder}")
        stack = Stack(folder, port_for_a_stack(0))
        with stack, Client(Transport(stack.url)) as client:
            to_stderr(f"ready: {stack.url}/docs")
            experiment = client.experiments.create(spec)
            to_stderr(f"experiment {experiment.id}: {experiment.state.runs.total} runs")
            experiment.wait(progress=True)
            comparison = experiment.comparison()
            result = DemoResult(
                experiment=experiment,
                comparison=comparison,
                claims=claims_of(experiment.status, comparison),
                figure=experiment.chart("comparison").save(output / "comparison.svg"),
                rows=_saved(output / "results.csv", experiment.export("csv")),
                seconds=time.monotonic() - started,
            )
            if result.exit_code is not ExitCode.OK:
                _explain_lost_runs(experiment)
    if result.exit_code is ExitCode.OK:
        shutil.rmtree(folder)
    else:
        to_stderr(f"the stack's folder is kept: {folder}")
    return result


def print_result(result: DemoResult) -> None:
    """The table, the gain, and one line for each claim."""
    to_stdout(f"{result.experiment.name}: medians over the seeds")
    table_to_stdout(comparison_table(result.comparison, BASELINE))
    for gain in result.comparison.backward_gain:
        to_stdout(gain_line(gain))
    for warning in result.comparison.warnings:
        to_stderr(f"note: {warning}")
    to_stdout("")
    for claim in result.claims:
        to_stdout(f"{'✓' if claim.holds else '✗'} {claim.sentence}: {claim.found}")
    to_stdout("")
    to_stdout(f"figure: {result.figure}")
    to_stdout(f"rows:   {result.rows}")
    to_stdout(f"took:   {result.seconds:.0f} s")


def _saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _explain_lost_runs(experiment: Experiment) -> None:
    for run in experiment.runs():
        if run.status != "succeeded":
            to_stderr(f"{run.label}, seed {run.seed}: {run.status}: {run.message or 'no message'}")
