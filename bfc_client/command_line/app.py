"""The commands. Each reads its arguments, asks the client, and prints; nothing more."""

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from bfc_client.answers import ExperimentState
from bfc_client.client import connect
from bfc_client.command_line import demo as demonstration
from bfc_client.command_line.arguments import AsJson, DataDir, ExperimentName
from bfc_client.command_line.artifacts import artifacts
from bfc_client.command_line.complexity import complexity_table, fit_line
from bfc_client.command_line.doctor import examine, print_findings
from bfc_client.command_line.export import ExportFormat, exported, format_of, write_export
from bfc_client.command_line.named import experiment_named
from bfc_client.command_line.output import (
    CommandRefused,
    ExitCode,
    exit_code_of,
    exit_code_of_status,
    json_to_stdout,
    print_error,
    table_to_stdout,
    to_stderr,
    to_stdout,
)
from bfc_client.command_line.search import search
from bfc_client.command_line.spec_file import read_spec
from bfc_client.command_line.stack import (
    DEFAULT_CONCURRENCY,
    Stack,
    port_for_a_stack,
    refuse_a_second_stack,
    termination_as_interrupt,
)
from bfc_client.command_line.tables import (
    bytes_in_words,
    comparison_table,
    experiments_table,
    gain_line,
    number,
    plan_table,
    reused_in_words,
    runs_table,
    verdict_lines,
)
from bfc_client.command_line.webhooks import webhooks
from bfc_client.discovery import url_of_stack
from bfc_client.errors import BfcClientError
from bfc_client.experiment import Experiment
from bfc_client.settings import DEFAULT_PORT, read_settings
from bfc_core.specs import ExperimentSpec

FLAGSHIP = Path(__file__).parents[1] / "flagship.yaml"


class _Commands(TyperGroup):
    """Turns the client's errors into words and an exit code, at one place for all commands."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's context is click's
        try:
            return super().invoke(ctx)
        except BfcClientError as error:
            print_error(error)
            raise typer.Exit(exit_code_of(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read our output has read enough: click ends us quietly
                raise
            to_stderr(f"bfc: {error.filename or 'this machine'}: {error.strerror or error}")
            raise typer.Exit(ExitCode.ERROR) from error
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    name="bfc",
    help="Train and compare hierarchical learners. Exit codes: 0 ok, 1 error, 2 usage, 3 not found, "
    "4 conflict, 5 a run failed, 6 server unreachable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command with this process's arguments."""
    app()


@app.command()
def up(
    data_dir: DataDir = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = DEFAULT_PORT,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="packs at a time")] = DEFAULT_CONCURRENCY,
) -> None:
    """Keep a stack running here (SQLite, file broker, API, worker) until Ctrl-C."""
    folder = data_dir or read_settings().data_dir
    refuse_a_second_stack(folder)
    with termination_as_interrupt():
        stack = Stack(folder, port_for_a_stack(port), concurrency)
        with stack:
            to_stdout(stack.url)
            to_stdout(f"{stack.url}/docs")
            to_stderr(f"folder {folder}, log {stack.log}; Ctrl-C stops the stack, `bfc` finds it from here")
            try:
                status = stack.wait()
            except KeyboardInterrupt:
                to_stderr("stopping; accepted runs go on at the next `bfc up`")
                return
    raise CommandRefused(f"the stack ended by itself (status {status}); its log: {stack.log}")


@app.command()
def demo(
    *,
    output: Annotated[Path, typer.Option(help="folder for figure and rows")] = Path("demo-output"),
    spec: Annotated[Path, typer.Option("--spec", "-f", help="another spec than the flagship")] = FLAGSHIP,
    as_json: AsJson = False,
) -> None:
    """Run the flagship comparison on a stack of its own and say whether the paper's claim held."""
    result = demonstration.run_demo(read_spec(spec, ExperimentSpec), output)
    if as_json:
        json_to_stdout(
            {
                "comparison": result.comparison.model_dump(mode="json"),
                "claims": [vars(claim) for claim in result.claims],
                "figure": str(result.figure),
                "rows": str(result.rows),
                "seconds": round(result.seconds, 1),
            }
        )
    else:
        demonstration.print_result(result)
    raise typer.Exit(result.exit_code)


@app.command()
def submit(
    *,
    spec: Annotated[Path, typer.Option("--spec", "-f", help="YAML or JSON; - is standard input")],
    watch_it: Annotated[bool, typer.Option("--watch", help="follow it to its end")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the cost, start nothing")] = False,
    force: Annotated[bool, typer.Option("--force", help="compute anew what a finished run answers")] = False,
    as_json: AsJson = False,
) -> None:
    """Start an experiment from a spec file."""
    checked = read_spec(spec, ExperimentSpec)
    with connect() as client:
        if dry_run:
            plan = client.experiments.plan(checked, force=force)
            if as_json:
                json_to_stdout(plan)
                return
            table_to_stdout(plan_table(plan))
            new = plan.cells - plan.reused_cells
            to_stdout(
                f"{new} runs in {plan.packs} packs, about {number(plan.estimated_seconds)} s on one core, "
                f"at most {bytes_in_words(plan.estimated_memory_bytes)} at once"
            )
            if plan.reused_cells:
                to_stderr(
                    f"note: {reused_in_words(plan.reused_cells, plan.saved_seconds)}; --force computes them anew"
                )
            for warning in plan.warnings:
                to_stderr(f"note: {warning}")
            return
        experiment = client.experiments.create(checked, force=force)
        state = experiment.state
        if state.reused_runs:
            to_stderr(
                f"note: {reused_in_words(state.reused_runs, state.saved_seconds)}; --force computes them anew"
            )
        if watch_it:
            to_stderr(f"experiment {experiment.id}")
            _follow(experiment, as_json=as_json)
        elif as_json:
            json_to_stdout(experiment.state)
        else:
            to_stdout(experiment.id)
            to_stderr(
                f"{experiment.state.runs.total} runs accepted; follow them with `bfc watch {experiment.id[:8]}`"
            )


@app.command("ls")
def list_experiments(
    *,
    status: Annotated[str | None, typer.Option(help="only those with this status")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="at most so many")] = 20,
    as_json: AsJson = False,
) -> None:
    """List experiments, newest first."""
    with connect() as client:
        states = [
            experiment.state
            for experiment, _ in zip(client.experiments.list(status), range(limit), strict=False)
        ]
    if as_json:
        json_to_stdout([state.model_dump(mode="json") for state in states])
    elif states:
        table_to_stdout(experiments_table(states))
    else:
        to_stderr("no experiments; start one with `bfc submit -f examples/smallest.yaml`")


@app.command()
def show(*, name: ExperimentName, as_json: AsJson = False) -> None:
    """Show an experiment: its runs and their comparison."""
    with connect() as client:
        experiment = experiment_named(client, name)
        runs = experiment.runs()
        comparison = experiment.comparison()
    if as_json:
        json_to_stdout(
            {
                "experiment": experiment.state.model_dump(mode="json"),
                "runs": [run.model_dump(mode="json") for run in runs],
                "comparison": comparison.model_dump(mode="json"),
            }
        )
        return
    to_stdout(f"{experiment.name} ({experiment.id}): {experiment.status}, {experiment.state.runs.in_words()}")
    table_to_stdout(runs_table(runs))
    if comparison.cells:
        table_to_stdout(comparison_table(comparison, comparison.baseline or demonstration.BASELINE))
    for gain in comparison.backward_gain:
        to_stdout(gain_line(gain))
    for warning in comparison.warnings:
        to_stderr(f"note: {warning}")
    if len({run.n for run in runs}) > 1:
        to_stderr(f"several n: `bfc complexity {experiment.id[:8]}` says how many samples each learner needs")


@app.command()
def complexity(
    *,
    name: ExperimentName,
    eps: Annotated[float, typer.Option(help="error to be reached")] = 0.1,
    delta: Annotated[float, typer.Option(help="share of the seeds that may miss it")] = 0.2,
    metric: Annotated[str, typer.Option(help="nmse, or error in classification")] = "nmse",
    as_json: AsJson = False,
) -> None:
    """Show how many samples each learner needs, and how that grows with dim."""
    with connect() as client:
        found = experiment_named(client, name).complexity(eps, delta, metric)
    if as_json:
        json_to_stdout(found)
        return
    table_to_stdout(complexity_table(found.cells))
    for fit in found.fits:
        to_stdout(fit_line(fit))
    for warning in found.warnings:
        to_stderr(f"note: {warning}")


app.command()(search)


@app.command()
def reproduce(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="PRESET", help="[default: list them]", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a preset on the server and print expected beside measured; without a name, list the presets."""
    with connect() as client:
        if name is None:
            entries = client.reproductions()
            if as_json:
                json_to_stdout([entry.model_dump(mode="json") for entry in entries])
            for entry in [] if as_json else entries:
                to_stdout(f"{entry.name}: {entry.shows}")
            return
        started = client.reproduce(name)
        started.wait(on_start=lambda role, one: to_stderr(f"{role}: experiment {one.id}"))
        verdict = started.verdict()
    if as_json:
        json_to_stdout(verdict)
    else:
        to_stdout(f"{verdict.name}: {verdict.shows}")
        for line in verdict_lines(verdict):
            to_stdout(line)
    raise typer.Exit(ExitCode.OK if verdict.verdict == "passed" else ExitCode.RUN_FAILED)


@app.command()
def watch(*, name: ExperimentName, as_json: AsJson = False) -> None:
    """Follow an experiment to its end. Ctrl-C leaves the work running."""
    with connect() as client:
        _follow(experiment_named(client, name), as_json=as_json)


@app.command()
def cancel(*, name: ExperimentName, as_json: AsJson = False) -> None:
    """Stop every run of an experiment that has not finished."""
    with connect() as client:
        experiment = experiment_named(client, name).cancel()
    if as_json:
        json_to_stdout(experiment.state)
    else:
        to_stdout(f"{experiment.id} {experiment.status}")


@app.command()
def export(
    *,
    name: ExperimentName,
    form: Annotated[
        ExportFormat | None, typer.Option("--format", help="[default: the ending of --output, or csv]")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="[default: standard output]")] = None,
    chart: Annotated[str, typer.Option(help="which chart, for svg")] = "comparison",
    as_json: AsJson = False,
) -> None:
    """Write an experiment's result table (csv, parquet, ndjson) or chart (svg)."""
    chosen = format_of(form, output)
    if output is None and chosen is ExportFormat.PARQUET and sys.stdout.isatty():
        raise CommandRefused("parquet is no text; name a file with --output", ExitCode.USAGE)
    with connect() as client:
        experiment = experiment_named(client, name)
        content = exported(experiment, chosen, chart)
    write_export(content, output)
    if output is not None and as_json:
        json_to_stdout({"path": str(output), "format": chosen.value, "bytes": len(content)})
    elif output is not None:
        to_stderr(f"{output}: {bytes_in_words(len(content))}")


app.command()(artifacts)
app.command()(webhooks)


@app.command()
def doctor(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Look for what is missing or broken here and at the server, and say what to do."""
    settings = read_settings()
    folder = data_dir or settings.data_dir
    findings = examine(settings.url or url_of_stack(folder), settings, folder)
    if as_json:
        json_to_stdout([finding.model_dump(mode="json") for finding in findings])
    else:
        print_findings(findings)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(ExitCode.ERROR)


def _follow(experiment: Experiment, *, as_json: bool) -> None:
    def print_state(state: ExperimentState) -> None:
        json_to_stdout(state, on_one_line=True)

    try:
        experiment.wait(progress=not as_json, on_change=print_state if as_json else None)
    except KeyboardInterrupt:
        to_stderr(f"no longer watching; the work goes on: `bfc watch {experiment.id[:8]}`")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if not as_json:
        comparison = experiment.comparison()
        if comparison.cells:
            table_to_stdout(comparison_table(comparison, comparison.baseline or demonstration.BASELINE))
        to_stdout(f"{experiment.id} {experiment.status}")
        for run in experiment.runs("failed"):
            to_stderr(
                f"{run.label}, n {run.n}, dim {run.dim}, seed {run.seed}: {run.message or 'no message'}"
            )
    raise typer.Exit(exit_code_of_status(experiment.status))
