"""Algorithm 1 where α and J are not known: a grid of guesses, the best one chosen on held-out samples.

arXiv:2001.04413 §4 assumes α_ℓ and J_ℓ known and allows a grid search over them. Every guess is a whole training on
the same training part; guesses of one J have one shape and train as one batched program. The chosen network is
not trained again on the held-out part. What the search costs is in the report: ``steps`` are those of all guesses.

An interrupted search starts anew; its guesses send no measurements, for a run has only one series of its own.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from bfc_core.evaluation import Problem
from bfc_core.learners.hierarchical import HierarchicalPack
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
    specs: Sequence[RunSpec], problems: Sequence[Problem], observer: Observer, device: str
) -> list[Fitted]:
    """The best guess of every run, with the steps of all of them."""
    return [
        _search(run, spec, problem, observer, device, len(specs))
        for run, (spec, problem) in enumerate(zip(specs, problems, strict=True))
    ]


def _search(run: int, spec: RunSpec, problem: Problem, observer: Observer, device: str, runs: int) -> Fitted:
    learner = spec.learner
    assert isinstance(learner, AlgorithmOne)
    assert learner.search is not None
    rows = spec.n - max(1, round(learner.search.validation_fraction * spec.n))
    part = replace(problem, x=problem.x[:rows], y=problem.y[:rows])
    told = spec.model_copy(update={"n": rows, "learner": learner.model_copy(update={"search": None})})
    groups = guesses_of(learner.search, hierarchy_of(spec.target))
    fitted: list[Fitted] = []
    for number, group in enumerate(groups):
        watch = _Watch(observer, run, runs, number, len(groups))
        fitted += HierarchicalPack(
            [told] * len(group), [part] * len(group), watch, device, None, hierarchies=group
        ).fit()
    if run in observer.cancelled():
        return Fitted(Outcome.CANCELLED, None, message="cancelled on request")
    errors = [_validation_error(guess, problem, rows) for guess in fitted]
    best = min(range(len(fitted)), key=lambda guess: errors[guess])
    chosen = list(itertools.chain.from_iterable(groups))[best]
    selection = dict(fitted[best].selection) | {
        "alphas": ", ".join(f"{alpha:g}" for alpha in chosen.alphas.values()),
        "connections": "; ".join(
            f"{level}: {', '.join(map(str, sources))}" for level, sources in chosen.connections.items()
        ),
        "guesses": len(fitted),
        "validation_nmse": errors[best],
    }
    steps = sum(guess.steps for guess in fitted)
    return replace(fitted[best], selection=selection, steps=steps)


def _validation_error(fitted: Fitted, problem: Problem, rows: int) -> float:
    """nMSE on the held-out rows; infinite where there is no finite prediction."""
    if fitted.predictor is None:
        return float("inf")
    error = normalised_mse(fitted.predictor(problem.x[rows:]), problem.y[rows:])
    return min(float("inf"), error)


class _Watch:
    """The observer as one guess group sees it: progress is a share of the whole search."""

    def __init__(self, observer: Observer, run: int, runs: int, group: int, groups: int) -> None:
        self._observer, self._run = observer, run
        self._before, self._parts = run * groups + group, runs * groups

    def progressed(self, step: int, steps: int) -> None:
        """Pass on, shifted by the groups before."""
        self._observer.progressed(self._before * steps + step, self._parts * steps)

    def measured(self, run: int, measurements: Sequence[Measurement]) -> None:
        """Guesses send nothing."""

    def cancelled(self) -> frozenset[int]:
        """Every guess, where the run that they are guesses of is cancelled."""
        is_cancelled = self._run in self._observer.cancelled()
        return frozenset(range(10_000)) if is_cancelled else frozenset()

    def stop_requested(self) -> bool:
        """As asked."""
        return self._observer.stop_requested()
