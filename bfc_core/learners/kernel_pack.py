"""Kernel runs of a pack: one after another, each finished report kept in the checkpoint."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.errors import (
    BfcError,
    DataSetUnusable,
    KernelNotFinite,
    KernelNotPositiveDefinite,
    PackInterrupted,
    ResourceLimitExceeded,
    TargetIsConstant,
)
from bfc_core.evaluation import Problem, report_of
from bfc_core.flops.counting import FlopCounter
from bfc_core.kernel_cost import shared_memory_bytes
from bfc_core.kernels.pulse import watched
from bfc_core.kernels.shared import EigendecompositionFolder, SharedGrams
from bfc_core.learners.baseline import FitContext, FittedFunction
from bfc_core.learners.baselines import fit_baseline
from bfc_core.learners.kernel_baselines import DISTANCE_TO_LIMIT
from bfc_core.learners.kernel_ridge import FittedKernel, fit_kernel_ridge
from bfc_core.learners.predictor import Fitted
from bfc_core.learners.recursive_feature_machine import FittedFeatureMachine, fit_recursive_feature_machine
from bfc_core.packing import estimate_run, shares_a_gram
from bfc_core.posing import PosedProblems
from bfc_core.seeding import generator_for
from bfc_core.specs import KernelRidge, Measurement, Outcome, RecursiveFeatureMachine, Report, RunSpec
from bfc_core.specs.baselines import Baseline
from bfc_core.training.progress import Observer

NOT_FINITE = "try fewer layers, a smaller degree or smaller variances"


class RunNoLongerWanted(BfcError):
    """Raised inside a fit when its run was cancelled."""


@dataclass(frozen=True)
class KernelPredictor:
    """A fitted baseline; few have features by level."""

    fitted: FittedKernel | FittedFeatureMachine | FittedFunction

    def __call__(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"] | Float[Tensor, "n c"]:
        """f̂(x)."""
        return self.fitted(x)

    def features(self, x: Float[Tensor, "n dim"]) -> dict[int, Float[Tensor, "n k"]]:
        """What the baseline found of a level, where it says so; a kernel learns no level features."""
        if isinstance(self.fitted, FittedFunction) and self.fitted.level_features is not None:
            return self.fitted.level_features(x.double())
        return {}

    def forms(self) -> dict[int, Float[Tensor, "i i"]]:
        """The quadratic forms that the baseline found, where it says so."""
        return self.fitted.level_forms if isinstance(self.fitted, FittedFunction) else {}


class KernelPack:
    """Fits kernel runs in order.

    Args:
        specs: runs with kernel learners.
        observer: told of progress; asked for cancellations between solved systems.
        checkpoints: where finished reports are kept, or None.
        memory_limit_bytes: most bytes that one run may plan for, or None.
        folder: where eigendecompositions are kept between packs, or None.
        posed: draws what runs learn from; what several of them share is drawn once.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        observer: Observer,
        checkpoints: CheckpointFolder | None,
        memory_limit_bytes: int | None,
        folder: EigendecompositionFolder | None = None,
        posed: PosedProblems | None = None,
    ) -> None:
        self.specs, self.observer = specs, observer
        self._posed = posed or PosedProblems()
        kept = max((shared_memory_bytes(run.n) for run in specs if shares_a_gram(run, specs)), default=0)
        self.shared = SharedGrams(kept, folder)
        self.checkpoints, self.memory_limit_bytes = checkpoints, memory_limit_bytes

    def reports(self) -> list[Report]:
        """One report a run.

        Raises:
            PackInterrupted: the observer asked the pack to stop; finished reports are on disk.
        """
        state = self.checkpoints.load() if self.checkpoints is not None else None
        done = [Report.model_validate_json(text) for text in state["reports"]] if state else []
        kept = len(done)
        for run in range(len(done), len(self.specs)):
            try:
                done.append(self._report(run))
            except PackInterrupted:
                if len(done) > kept:
                    self._keep(done)
                raise
            # The last report needs no checkpoint: the result is written at once. Trivial runs are worth none each.
            if (
                len(done) < len(self.specs)
                and self.checkpoints is not None
                and self.checkpoints.is_worthwhile()
            ):
                self._keep(done)
                kept = len(done)
        return done

    def _keep(self, done: Sequence[Report]) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(len(done), {"reports": [report.model_dump_json() for report in done]})

    def _report(self, run: int) -> Report:
        if self.observer.stop_requested():
            raise PackInterrupted(f"stopped before run {run + 1} of {len(self.specs)}")
        if run in self.observer.cancelled():
            return Report(outcome=Outcome.CANCELLED, seconds=0.0, message="cancelled on request")
        started = time.monotonic()
        try:
            problem = self._posed.pose(self.specs[run])
        except (TargetIsConstant, DataSetUnusable) as error:
            return Report(outcome=Outcome.FAILED, seconds=time.monotonic() - started, message=str(error))
        posed = time.monotonic()
        counter = FlopCounter()
        try:
            try:
                with counter:
                    fitted = self._fit(run, problem)
            except KernelNotFinite as error:
                fitted = Fitted(Outcome.DIVERGED, None, message=f"{error}; {NOT_FINITE}")
            except KernelNotPositiveDefinite as error:
                fitted = Fitted(Outcome.DIVERGED, None, message=str(error))
            fitted = replace(fitted, flops=counter.flops)
            solved = time.monotonic()
            with watched(lambda: self._check_wanted(run)):
                advice = f"{NOT_FINITE}, or larger ridges"
                report = report_of(fitted, problem, seconds=0.0, advice=advice)
        except RunNoLongerWanted:
            return Report(
                outcome=Outcome.CANCELLED, seconds=time.monotonic() - started, message="cancelled on request"
            )
        times = {"seconds": time.monotonic() - started, "solve_seconds": solved - posed}
        report = report.model_copy(update=times)
        if report.metrics is not None and report.metrics.nmse is not None:
            numbers = {"nmse": report.metrics.nmse}
            distance = report.selection.get(DISTANCE_TO_LIMIT)
            if isinstance(distance, float):
                numbers[DISTANCE_TO_LIMIT] = distance
            self.observer.measured(
                run, [Measurement(name=name, step=0, value=value) for name, value in numbers.items()]
            )
        return report

    def _check_wanted(self, run: int) -> None:
        """Asked often, while a run is fitted and while it predicts."""
        if self.observer.stop_requested():
            raise PackInterrupted(f"stopped in run {run + 1} of {len(self.specs)}")
        if run in self.observer.cancelled():
            raise RunNoLongerWanted

    def _fit(self, run: int, problem: Problem) -> Fitted:
        furthest = 0

        def progress(solved: int, systems: int) -> None:
            nonlocal furthest
            parts = 100
            # A learner of several stages counts each from zero; what is shown never goes back.
            furthest = max(furthest, math.floor(parts * solved / max(systems, 1)))
            self.observer.progressed(parts * run + furthest, parts * len(self.specs))
            self._check_wanted(run)

        learner = self.specs[run].learner
        fitted: FittedKernel | FittedFeatureMachine | FittedFunction
        match learner:
            case KernelRidge():
                fitted = fit_kernel_ridge(
                    learner, problem.x, problem.y, progress, self.memory_limit_bytes, self.shared
                )
            case RecursiveFeatureMachine():
                generator = generator_for(self.specs[run].seed, "validation")
                fitted = fit_recursive_feature_machine(
                    learner, problem.x, problem.y, generator, progress, self.memory_limit_bytes
                )
            case Baseline():
                needed = estimate_run(self.specs[run]).memory_bytes
                if self.memory_limit_bytes is not None and needed > self.memory_limit_bytes:
                    raise ResourceLimitExceeded(
                        f"{learner.kind} on {len(problem.x)} samples", needed, self.memory_limit_bytes
                    )
                context = FitContext(self.specs[run].seed, progress, self.shared)
                fitted = fit_baseline(
                    learner, problem.x.double(), problem.y.double(), problem.target, context
                )
            case _:
                raise TypeError(f"{learner.kind} is not a kernel learner")
        return Fitted(
            Outcome.SUCCEEDED,
            KernelPredictor(fitted),
            selection=fitted.selection,
            warnings=fitted.warnings,
        )
