"""What a preset is: experiments, expectations with their tolerance, and the sentence of what they show. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bfc_core.specs import ExperimentSpec, Measurement
from bfc_core.statistics.aggregation import Row


@dataclass(frozen=True)
class Trained:
    """One run of a preset: its row, and what was measured while it trained."""

    row: Row
    measurements: Sequence[Measurement] = ()


Evidence = Mapping[str, Sequence[Trained]]
"""The runs of every experiment of a preset, by the experiment's role."""

Measure = Callable[[Evidence], float | None]
"""Reads one number off the evidence; None where it is not there."""


@dataclass(frozen=True)
class Expectation:
    """A number that a preset must find between ``low`` and ``high``; None is open."""

    sentence: str
    low: float | None
    high: float | None
    measure: Measure

    def check(self, evidence: Evidence) -> "Finding":
        """Measure it; a number that cannot be had does not hold."""
        found = self.measure(evidence)
        holds = (
            found is not None
            and (self.low is None or found >= self.low)
            and (self.high is None or found <= self.high)
        )
        return Finding(self.sentence, self.low, self.high, found, holds)


@dataclass(frozen=True)
class Finding:
    """An expectation beside what was measured."""

    sentence: str
    low: float | None
    high: float | None
    found: float | None
    holds: bool

    @property
    def expected(self) -> str:
        """The range in words."""
        if self.low is None:
            return f"≤ {self.high:g}"
        return f"≥ {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Reproduction:
    """One preset. ``figure`` names the chart that its record shows, ``of`` the role that it is drawn from."""

    name: str
    shows: str
    source: str
    experiments: Mapping[str, ExperimentSpec]
    expectations: Sequence[Expectation]
    figure: str
    of: str
    eps: float = 0.1
    delta: float = 0.2
    """Of n*(ε, δ), where the figure shows it; that figure is drawn from every role."""

    def check(self, evidence: Evidence) -> list[Finding]:
        """Every expectation beside what these runs found.

        Raises:
            KeyError: a role has no runs.
        """
        missing = self.experiments.keys() - evidence.keys()
        if missing:
            raise KeyError(f"no runs of {', '.join(sorted(missing))}")
        return [expectation.check(evidence) for expectation in self.expectations]
