"""Learners: the methods under comparison."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bfc_core.specs.base import NonNegativeFloat, PositiveFloat, Spec
from bfc_core.specs.baselines import AnyBaseline, Baseline, label_of_baseline
from bfc_core.specs.kernels import KernelSpec, image_kernels, label_of_kernel
from bfc_core.specs.targets import LOWEST_LEVEL, Alphas, AnyTarget, check_connections, hierarchy_of

Steps = Annotated[int, Field(ge=1, le=1_000_000)]


class Recipe(Spec):
    """How a hierarchical network is trained: the fields that every learner of science.md §2 shares.

    The defaults are the practical mode that was measured on targets of degree 8 and 16
    (docs/records/2026-11-24-degree-16).
    """

    width: Annotated[int, Field(ge=1, le=1024, description="m, rows of every W_ℓ")] = 40
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 512
    steps_per_stage: Annotated[
        Steps,
        Field(
            description="optimiser steps of one stage, on average: of the two stages of a level the wide one takes "
            "half as many, and the last stage of all takes what the wide ones saved"
        ),
    ] = 4000
    step_size: Annotated[PositiveFloat, Field(le=10)] = 3e-3
    tied_step_factor: Annotated[
        PositiveFloat, Field(le=1000, description="times step_size, in stages where every level is tied")
    ] = 6.0
    tie: Annotated[
        Literal["exact", "penalty"],
        Field(
            description="from a level's distillation on: 'exact' lets K stand for W, 'penalty' keeps both and draws "
            "them together by λ₃, λ₄, λ₅ as the paper writes it"
        ),
    ] = "exact"
    loss: Literal["huber", "squared"] = "huber"
    huber_delta: PositiveFloat = 0.3
    margin_slope: Annotated[
        PositiveFloat, Field(description="v of the classification objective, about 1/ε")
    ] = 10.0
    clip_norm: PositiveFloat = 1.0
    init_scale: PositiveFloat = 1e-2
    rank: Annotated[
        Literal["given", "threshold"],
        Field(
            description="rows of a distilled K: the k_ℓ given, or as many as singular values reach a tenth of the "
            "largest (k_ℓ unknown)"
        ),
    ] = "given"
    tie_weights: Annotated[
        tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat],
        Field(description="prefactors of λ₃, λ₄, λ₅, each times α_ℓ²"),
    ] = (1.0, 0.3, 0.1)
    norm_weight: Annotated[NonNegativeFloat, Field(description="λ₆, on ‖K‖² + ‖W‖²")] = 1e-7
    wide_norm_weight: Annotated[
        NonNegativeFloat,
        Field(description="λ₆ in the stage in which a level is wide: large first, small later"),
    ] = 3e-4
    truncation: Annotated[
        PositiveFloat | None,
        Field(
            description="B′: inner σ is z² up to here and constant from 2B′, in first-order steps; null leaves z², "
            "which is also what a refined network has"
        ),
    ] = 100.0
    refinement_steps: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="most Gauss–Newton steps on the tied network after the last stage, which every arm takes "
            "alike; 0 leaves the result of the first-order steps",
        ),
    ] = 200
    restarts: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="most attempts to leave a local minimum after the refinement: it is tried on a quarter of the "
            "samples or fewer (in turn those with the smallest labels and some at random), from the fourth on with "
            "fresh top levels, and kept where the objective on all samples gets lower",
        ),
    ] = 8
    precision: Literal["float32", "float64"] = "float32"
    activation: Annotated[
        Literal["steps", "plateau"],
        Field(
            description="when the next stage begins: after its number of steps, or earlier, once the objective on "
            "held-out training samples has stopped improving; the last stage always runs to its end"
        ),
    ] = "steps"
    plateau_patience: Annotated[
        float,
        Field(gt=0, le=1, allow_inf_nan=False, description="share of a stage's steps without improvement"),
    ] = 0.1
    plateau_tolerance: Annotated[
        float,
        Field(ge=0, lt=1, allow_inf_nan=False, description="least relative gain that is an improvement"),
    ] = 0.01
    validation_fraction: Annotated[
        float,
        Field(gt=0, lt=0.9, allow_inf_nan=False, description="share of the samples held out for the plateau"),
    ] = 0.1


class ExactMode(Spec):
    """Algorithm 1 as arXiv:2001.04413 §4 writes it: one sample a step, noise on W, thresholds that open levels.

    Squared loss (logistic in classification); of the recipe it uses width, truncation, tie_weights (as
    prefactors of λ₃, λ₄, λ₅), margin_slope and precision.
    """

    accuracy: Annotated[PositiveFloat, Field(description="ε: the end is ε₀ < ε")] = 0.02
    initial_accuracy: Annotated[
        PositiveFloat | None,
        Field(description="ε₀ at the start; null is 2·√objective, the least at which anything happens"),
    ] = None
    step_size: Annotated[PositiveFloat, Field(le=1)] = 2e-5
    step_limit: Annotated[
        Literal["none", "sample"],
        Field(
            description="'sample' shortens a step that would go past the sample it is taken on, as single samples of "
            "a heavy tail ask for where several levels are active; 'none' is the algorithm as written"
        ),
    ] = "none"
    noise: Annotated[
        NonNegativeFloat, Field(description="standard deviation of what each step adds to W")
    ] = 1e-5
    max_steps: Annotated[Steps, Field(description="samples drawn before the run is given up")] = 200_000
    check_every: Annotated[
        int, Field(ge=64, le=64_000, multiple_of=64, description="steps between two looks at the objective")
    ] = 256
    checked_samples: Annotated[
        int, Field(ge=16, le=100_000, description="training samples over which the objective is taken")
    ] = 2000
    gap_exponent: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False, description="C of Theorem 1")] = (
        2.0
    )
    kappa: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False, description="κ of the target")] = 2.0
    activation_prefactor: Annotated[PositiveFloat, Field(description="of Thres△_ℓ")] = 3.0
    distillation_prefactor: Annotated[PositiveFloat, Field(description="of Thres▽_ℓ")] = 3.0
    norm_prefactor: Annotated[NonNegativeFloat, Field(description="of λ₆")] = 1.0

    @model_validator(mode="after")
    def _there_is_something_to_reach(self) -> Self:
        if self.initial_accuracy is not None and self.initial_accuracy < self.accuracy:
            raise ValueError(
                f"initial_accuracy {self.initial_accuracy:g} is below the accuracy {self.accuracy:g}, so the run would "
                "end before its first step: ε₀ must start at ε or above"
            )
        return self


class HierarchySearch(Spec):
    """A grid of guesses at α and J, the best chosen on held-out samples (arXiv:2001.04413 §4 allows it).

    What is null is not searched: the learner is told it.
    """

    alphas: Annotated[tuple[Alphas, ...], Field(min_length=1, max_length=50)] | None = None
    connections: (
        Annotated[
            tuple[tuple[tuple[int, ...], ...], ...],
            Field(min_length=1, max_length=20, description="J_2, J_3, … of every guess"),
        ]
        | None
    ) = None
    validation_fraction: Annotated[float, Field(gt=0, lt=0.9, allow_inf_nan=False)] = 0.1

    @model_validator(mode="after")
    def _shapes_are_possible(self) -> Self:
        if self.alphas is None and self.connections is None:
            raise ValueError("search: name alphas, connections, or both")
        for guess in self.connections or ():
            check_connections(dict(enumerate(guess, LOWEST_LEVEL)), len(guess))
        return self

    @property
    def guesses(self) -> int:
        """Size of the grid."""
        return len(self.alphas or (0,)) * len(self.connections or (0,))


class AlgorithmOne(Recipe):
    """Algorithm 1 of arXiv:2001.04413: staged pre-training with every lower level left trainable.

    ``practical`` trains by the recipe (minibatches, Adam, stages); ``exact`` step by step as the paper writes it.
    """

    kind: Literal["algorithm_1"]
    mode: Literal["practical", "exact"] = "practical"
    exact: ExactMode | None = Field(
        default=None, description="constants of the exact mode; null is its defaults"
    )

    search: HierarchySearch | None = Field(
        default=None, description="guesses at α and J where the learner is not told them; practical mode only"
    )

    @model_validator(mode="after")
    def _constants_belong_to_the_exact_mode(self) -> Self:
        if self.exact is not None and self.mode != "exact":
            raise ValueError("exact: constants are given, but mode is 'practical'; set mode to 'exact'")
        if self.search is not None and self.mode == "exact":
            raise ValueError("search: belongs to the practical mode")
        return self

    @property
    def constants(self) -> ExactMode:
        """The constants of the exact mode."""
        return self.exact or ExactMode()


class Joint(Recipe):
    """Every level trained together from the start, for as many steps as the stages of Algorithm 1 have.

    Nothing is distilled, so W and K stay apart, drawn together by the penalty.
    """

    kind: Literal["joint"]
    tie: Literal["penalty"] = "penalty"


class Layerwise(Recipe):
    """Algorithm 1's stages with every lower level frozen once the next begins.

    A level is trained under a head that is thrown away: Sum(F_ℓ), which has no weights, or a quadratic network
    of ``head_levels`` hidden layers (arXiv:1812.11446 calls k − 1 what is called ``head_levels`` here).
    """

    kind: Literal["layerwise"]
    head_levels: Annotated[
        int,
        Field(ge=0, le=4, description="hidden layers of the head, shaped like the levels above; 0 is linear"),
    ] = 0


class CorrectionWindow(Recipe):
    """Algorithm 1's stages where correction reaches ``window`` levels below the newest; deeper ones are frozen.

    0 is ``layerwise`` and null (no limit) is ``algorithm_1``, stage by stage.
    """

    kind: Literal["correction_window"]
    window: Annotated[int, Field(ge=0, le=5)] | None = Field(
        default=None, description="levels that correction reaches below the newest; null is all of them"
    )


class MatchedComputeControl(Recipe):
    """The lower level alone, trained on for as many further steps as the other arms spend above it.

    It is added beside every ``layerwise`` and ``correction_window`` learner and starts from the same checkpoint.
    """

    kind: Literal["matched_compute_control"]


class KernelRidge(Spec):
    """Kernel ridge regression in float64; ridge by closed-form leave-one-out over a log grid."""

    kind: Literal["kernel_ridge"]
    kernel: KernelSpec
    feature_map: Annotated[
        Literal["identity", "quadratic"],
        Field(description="'quadratic' gives the kernel (x, x² − 1), the map that the network starts from"),
    ] = "identity"
    ridges: Annotated[
        tuple[PositiveFloat, ...] | None,
        Field(min_length=1, max_length=200, description="relative to the mean of the gram's diagonal"),
    ] = None
    criterion: Annotated[
        Literal["leave_one_out", "gcv"], Field(description="closed form that the ridge is chosen by")
    ] = "leave_one_out"
    solver: Annotated[
        Literal["exact", "nystrom", "iterative"],
        Field(
            description="'nystrom' restricts the fit to evenly spaced centres; 'iterative' takes its ridge from "
            "there and solves the exact system by preconditioned conjugate gradients, without holding the gram"
        ),
    ] = "exact"
    centres: Annotated[
        int,
        Field(ge=8, le=20_000, description="of the solvers 'nystrom' and 'iterative'; at most n are used"),
    ] = 1000
    precision: Annotated[
        Literal["float64", "mixed"],
        Field(
            description="of the solver 'exact': 'mixed' factors in float32 and refines the answer in float64 "
            "where the condition allows; the report says whether it did"
        ),
    ] = "float64"

    @model_validator(mode="after")
    def _images_stay_images(self) -> Self:
        if self.feature_map != "identity" and any(True for _ in image_kernels(self.kernel)):
            raise ValueError("a kernel on images reads the pixels themselves: feature_map must be 'identity'")
        return self


class RecursiveFeatureMachine(Spec):
    """Laplace kernel ridge with a metric learned from average gradient outer products (arXiv:2212.13881).

    Bandwidth, ridge and round are chosen on a held-out part of the training samples.
    """

    kind: Literal["recursive_feature_machine"]
    rounds: Annotated[int, Field(ge=1, le=50)] = 5
    bandwidths: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=20)] = (3.0, 10.0, 30.0)
    ridges: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=50)] = (
        1e-4,
        1e-3,
        1e-2,
        1e-1,
    )
    validation_fraction: Annotated[float, Field(gt=0, lt=0.9, allow_inf_nan=False)] = 0.2
    feature_map: Literal["identity", "quadratic"] = "identity"
    metric_scale: Annotated[
        Literal["trace", "none"],
        Field(
            description="'trace' scales every metric to trace dim, so that a bandwidth keeps its meaning; 'none' "
            "takes the average gradient outer product as it is, as the paper does"
        ),
    ] = "trace"


StagedLearner = AlgorithmOne | Layerwise | CorrectionWindow | MatchedComputeControl
HierarchicalLearner = StagedLearner | Joint
AnyLearner = HierarchicalLearner | KernelRidge | RecursiveFeatureMachine | AnyBaseline
LearnerSpec = Annotated[AnyLearner, Field(discriminator="kind", title="LearnerSpec")]


def label_of(learner: AnyLearner) -> str:
    """A short readable name that tells apart what a table's reader must tell apart."""
    match learner:
        case KernelRidge() | RecursiveFeatureMachine():
            kernel = f" {label_of_kernel(learner.kernel)}" if isinstance(learner, KernelRidge) else ""
            given = " given (x, x²−1)" if learner.feature_map == "quadratic" else ""
            return f"{learner.kind}{kernel}{given}"
        case AlgorithmOne():
            mode = " exact" if learner.mode == "exact" else ""
            return learner.kind + mode + (" search" if learner.search is not None else "")
        case CorrectionWindow():
            return f"correction_window {'unlimited' if learner.window is None else learner.window}"
        case Layerwise() if learner.head_levels > 0:
            return f"layerwise, head of {learner.head_levels} hidden"
        case Baseline():
            return label_of_baseline(learner)
        case _:
            return learner.kind


def check_search(search: HierarchySearch, target: AnyTarget) -> None:
    """Refuse guesses that do not have the target's number of levels.

    Raises:
        ValueError: naming the guess.
    """
    levels = len(hierarchy_of(target).levels)
    for guess in (*(search.alphas or ()), *(search.connections or ())):
        if len(guess) != levels:
            raise ValueError(f"search: the guess {guess} has {len(guess)} levels, the target {levels}")
