"""Algorithm 1 where α and J are not known: a grid of guesses, the best one chosen on held-out samples.

arXiv:2001.04413 §4 assumes α_ℓ and J_ℓ known and allows a grid search over them. Every guess is a whole training on
the same training part; guesses of one J have one shape and train as one batched program. The chosen network is
not trained again on the held-out part. What the search costs is in the report: ``steps`` are those of all guesses.

A search goes on where it was interrupted: what is behind it (the errors of all guesses so far, the best network, the
runs that are done) is saved with the checkpoint of the guesses that are being trained, and after each group of them.

While it searches a run measures ``validation_nmse`` of every guess and ``best_validation_nmse`` so far, with the steps
of all guesses so far; the chosen network is measured once, in the stage ``chosen``.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from bfc_core.checkpoint import Checkpoints
from bfc_core.evaluation import Problem
from bfc_core.flops.counting import FlopCounter
from bfc_core.learners.hierarchical import HierarchicalPack
from bfc_core.learners.network_predictor import NetworkPredictor
from bfc_core.learners.predictor import Fitted
from bfc_core.metrics.regression import normalised_mse
from bfc_core.specs import (
    AlgorithmOne,
    AnyLearner,
    Hierarchy,
    HierarchySearch,
    Measurement,
    Outcome,
    RunSpec,
    hierarchy_of,
)
from bfc_core.training.measuring import measurements, numbers_of
from bfc_core.training.progress import Observer


def searches(learner: AnyLearner) -> bool:
    """Whether a learner has to find α or J itself."""
    return isinstance(learner, AlgorithmOne) and learner.search is not None


def guesses_of(search: HierarchySearch, told: Hierarchy) -> list[list[Hierarchy]]:
    """The grid, grouped by J, because guesses of one J have one shape. What is not searched is as told."""
    alphas = search.alphas or (tuple(told.alphas.values()),)
    connections = search.connections or (tuple(told.connections.values()),)
    return [
        [
            replace(
                told,
                alphas=dict(zip(told.levels, weights, strict=True)),
                connections=dict(zip(told.levels, wiring, strict=True)),
            )
            for weights in alphas
        ]
        for wiring in connections
    ]


def fit_by_search(
    specs: Sequence[RunSpec],
    problems: Sequence[Problem],
    observer: Observer,
    device: str,
    checkpoints: Checkpoints | None = None,
) -> list[Fitted]:
    """The best guess of every run, with the steps of all of them.

    Raises:
        PackInterrupted: the observer asked the pack to stop; a checkpoint was saved where there is a place for it.
    """
    saved = None if checkpoints is None else checkpoints.load()
    standings = [_Standing(**{"flops": None} | standing) for standing in saved["standings"]] if saved else []
    inner = saved["inner"] if saved else None
    fitted = []
    for run, (spec, problem) in enumerate(zip(specs, problems, strict=True)):
        if run == len(standings):
            standings.append(_Standing())
            inner = None
        search = _Search(run, spec, problem, observer, device, len(specs))
        fitted.append(search.fit(standings, inner, checkpoints))
    return fitted


@dataclass
class _Standing:
    """How far the search of one run has come. Plain values and tensors, so that a checkpoint can hold it."""

    errors: list[float] = field(default_factory=list)
    """Validation nMSE of every guess so far, in the grid's order."""
    steps: int = 0
    flops: int | None = 0
    groups: int = 0
    """Groups of guesses (one J each) that are done."""
    flat: Tensor | None = None
    """Parameters of the best guess so far; None where it has no finite network."""
    outcome: str = Outcome.DIVERGED.value
    message: str | None = None
    warnings: list[str] = field(default_factory=list)
    selection: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """The guess of the least error, the first of several."""
        return min(range(len(self.errors)), key=lambda guess: self.errors[guess])

    def take(self, fitted: Fitted, error: float, flops: int) -> None:
        """Note the next guess, and keep it where it is the best so far; ``flops`` are those of judging it."""
        self.errors.append(error)
        self.steps += fitted.steps
        unknown = self.flops is None or fitted.flops is None
        self.flops = None if unknown else (self.flops or 0) + (fitted.flops or 0) + flops
        if self.best == len(self.errors) - 1:
            network = fitted.predictor
            self.flat = network.flat[0].cpu().clone() if isinstance(network, NetworkPredictor) else None
            self.outcome, self.message = fitted.outcome.value, fitted.message
            self.warnings, self.selection = list(fitted.warnings), dict(fitted.selection)


class _Search:
    """The search of one run of a pack."""

    def __init__(
        self, run: int, spec: RunSpec, problem: Problem, observer: Observer, device: str, runs: int
    ) -> None:
        learner = spec.learner
        assert isinstance(learner, AlgorithmOne)
        assert learner.search is not None
        self.run, self.runs, self.problem = run, runs, problem
        self.observer, self.device = observer, device
        self.rows = spec.n - max(1, round(learner.search.validation_fraction * spec.n))
        self.told = spec.model_copy(
            update={"n": self.rows, "learner": learner.model_copy(update={"search": None})}
        )
        self.groups = guesses_of(learner.search, hierarchy_of(spec.target))

    def fit(
        self, standings: list[_Standing], inner: dict[str, Any] | None, checkpoints: Checkpoints | None
    ) -> Fitted:
        """Try what has not been tried yet; ``inner`` is where the training of the next group stood."""
        standing = standings[self.run]
        if self.run < len(standings) - 1:
            return self._fitted(standing)
        for number in range(standing.groups, len(self.groups)):
            place = self.run * len(self.groups) + number
            watch = _Watch(self.observer, self.run, place, self.runs * len(self.groups))
            kept = None if checkpoints is None else _Within(checkpoints, standings, place, watch, inner)
            fitted = self._pack(number, watch, kept).fit()
            inner = None
            if self.run in self.observer.cancelled():
                break
            for guess in fitted:
                with FlopCounter() as counter:
                    error = _validation_error(guess, self.problem, self.rows)
                standing.take(guess, error, counter.flops)
                self._tell(standing)
            standing.groups += 1
            if kept is not None:
                kept.save_between()
        if self.run in self.observer.cancelled():
            return Fitted(Outcome.CANCELLED, None, message="cancelled on request")
        chosen = self._fitted(standing)
        if chosen.predictor is not None:
            numbers = numbers_of(chosen.predictor, self.problem).items()
            self.observer.measured(self.run, measurements(numbers, standing.steps, "chosen"))
        return chosen

    def _pack(self, group: int, observer: Observer, checkpoints: Checkpoints | None) -> HierarchicalPack:
        guesses = self.groups[group]
        part = replace(self.problem, x=self.problem.x[: self.rows], y=self.problem.y[: self.rows])
        told, parts = [self.told] * len(guesses), [part] * len(guesses)
        return HierarchicalPack(told, parts, observer, self.device, checkpoints, hierarchies=guesses)

    def _tell(self, standing: _Standing) -> None:
        number, guesses = len(standing.errors), sum(map(len, self.groups))
        values = {"validation_nmse": standing.errors[-1], "best_validation_nmse": min(standing.errors)}
        numbers = [((name, None), value) for name, value in values.items()]
        stage = f"guess {number} of {guesses}"
        self.observer.measured(self.run, measurements(numbers, standing.steps, stage))

    def _fitted(self, standing: _Standing) -> Fitted:
        best = standing.best
        chosen = list(itertools.chain.from_iterable(self.groups))[best]
        selection = standing.selection | {
            "alphas": ", ".join(f"{alpha:g}" for alpha in chosen.alphas.values()),
            "connections": "; ".join(
                f"{level}: {', '.join(map(str, sources))}" for level, sources in chosen.connections.items()
            ),
            "guesses": len(standing.errors),
            "validation_nmse": standing.errors[best],
        }
        predictor = None
        if standing.flat is not None:
            group, place = divmod(best, len(self.groups[0]))
            predictor = self._pack(group, self.observer, None).predictor(place, standing.flat)
        return Fitted(
            Outcome(standing.outcome),
            predictor,
            standing.steps,
            standing.flops,
            selection,
            tuple(standing.warnings),
            standing.message,
        )


def _validation_error(fitted: Fitted, problem: Problem, rows: int) -> float:
    """nMSE on the held-out rows; infinite where there is no finite prediction."""
    if fitted.predictor is None:
        return float("inf")
    error = normalised_mse(fitted.predictor(problem.x[rows:]), problem.y[rows:])
    return min(float("inf"), error)


class _Within:
    """Checkpoints of a group of guesses, with all that the search has behind it."""

    def __init__(
        self,
        whole: Checkpoints,
        standings: list[_Standing],
        place: int,
        watch: "_Watch",
        inner: dict[str, Any] | None,
    ) -> None:
        self._whole, self._standings, self._inner = whole, standings, inner
        self._place, self._watch = place, watch

    def due(self) -> bool:
        """As the pack's own."""
        return self._whole.due()

    def save(self, step: int, state: dict[str, Any]) -> None:
        """The group's state and the search's; steps grow over the groups, since the newest is the largest."""
        self._save(self._place * self._watch.steps + step, state)

    def save_between(self) -> None:
        """The search's state, where a group has ended and the next has not begun."""
        self._save((self._place + 1) * self._watch.steps, None)

    def load(self) -> dict[str, Any] | None:
        """Where the group stood."""
        return self._inner

    def _save(self, step: int, inner: dict[str, Any] | None) -> None:
        standings = [vars(standing) for standing in self._standings]
        self._whole.save(step, {"standings": standings, "inner": inner})


class _Watch:
    """The observer as one group of guesses sees it: progress is a share of the whole search."""

    def __init__(self, observer: Observer, run: int, place: int, places: int) -> None:
        self._observer, self._run = observer, run
        self._place, self._places = place, places
        self.steps = 0
        """Of one group; all have the same."""

    def progressed(self, step: int, steps: int) -> None:
        """Pass on, shifted by the groups before."""
        self.steps = steps
        self._observer.progressed(self._place * steps + step, self._places * steps)

    def measured(self, run: int, measurements: Sequence[Measurement]) -> None:
        """What guesses measure on their way is not the run's: a run has one series of its own."""

    def cancelled(self) -> frozenset[int]:
        """Every guess, where the run that they are guesses of is cancelled."""
        is_cancelled = self._run in self._observer.cancelled()
        return frozenset(range(10_000)) if is_cancelled else frozenset()

    def stop_requested(self) -> bool:
        """As asked."""
        return self._observer.stop_requested()
