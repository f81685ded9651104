"""Progress on standard error: a bar on a terminal, one line for each change anywhere else."""

import sys
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bfc_client.answers import ExperimentState


class ProgressDisplay:
    """Shows the states it is given; silent where ``enabled`` is false."""

    def __init__(self, *, enabled: bool = True, stream: TextIO | None = None) -> None:
        self._enabled = enabled
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_change: tuple[object, ...] = ()

    def __enter__(self) -> Self:
        if self._enabled and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[words]}", style="dim"),
                console=self._console,
            )
            self._task = self._bar.add_task("queued", total=1.0, words="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, state: ExperimentState) -> None:
        """Show this state."""
        if not self._enabled:
            return
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                completed=1.0 if state.status.is_terminal else state.progress,
                description=f"{state.status} {state.runs.finished}/{state.runs.total} runs",
                words=state.runs.in_words(),
            )
            return
        # A change is a run that moved, or a tenth of the work: a log is not the place for each percent.
        change = (state.status, state.runs, int(10 * state.progress))
        if change != self._last_change:
            self._last_change = change
            self._console.print(line_of(state), markup=False)


def line_of(state: ExperimentState) -> str:
    """A state as one line of text."""
    return (
        f"{state.id[:8]} {state.status}: {state.runs.finished}/{state.runs.total} runs finished "
        f"({state.runs.in_words()}), {100 * state.progress:.0f} %"
    )
