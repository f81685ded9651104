"""Learners: the methods under comparison."""

from typing import Annotated, Literal

from pydantic import Field

from bfc_core.specs.base import NonNegativeFloat, PositiveFloat, Spec
from bfc_core.specs.baselines import AnyBaseline, Baseline, label_of_baseline
from bfc_core.specs.kernels import KernelSpec, label_of_kernel

Steps = Annotated[int, Field(ge=1, le=1_000_000)]


class Recipe(Spec):
    """How a hierarchical network is trained: the fields that every learner of science.md §2 shares.

    The defaults are the practical mode that was measured on degree-8 targets (docs/notation.md).
    """

    width: Annotated[int, Field(ge=1, le=1024, description="m, rows of every W_ℓ")] = 40
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 512
    steps_per_stage: Annotated[Steps, Field(description="optimiser steps of one stage")] = 4000
    step_size: Annotated[PositiveFloat, Field(le=10)] = 3e-3
    loss: Literal["huber", "squared"] = "huber"
    huber_delta: PositiveFloat = 0.3
    clip_norm: PositiveFloat = 1.0
    init_scale: PositiveFloat = 1e-2
    tie_weights: Annotated[
        tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat],
        Field(description="prefactors of λ₃, λ₄, λ₅, each times α_ℓ²"),
    ] = (1.0, 0.3, 0.1)
    norm_weight: Annotated[NonNegativeFloat, Field(description="λ₆, on ‖K‖² + ‖W‖²")] = 1e-5
    truncation: Annotated[
        PositiveFloat | None,
        Field(description="B′: inner σ is z² up to here and constant from 2B′; null leaves z²"),
    ] = 100.0
    precision: Literal["float32", "float64"] = "float32"


class AlgorithmOne(Recipe):
    """Algorithm 1 of arXiv:2001.04413: staged pre-training with every lower level left trainable."""

    kind: Literal["algorithm_1"]
    mode: Literal["practical"] = "practical"


class Joint(Recipe):
    """Every level trained together from the start, for as many steps as the stages of Algorithm 1 have."""

    kind: Literal["joint"]


class Layerwise(Recipe):
    """Algorithm 1's stages with every lower level frozen once the next begins."""

    kind: Literal["layerwise"]


class MatchedComputeControl(Recipe):
    """The lower level alone, trained on for as many further steps as the other arms spend above it.

    It is added beside every ``layerwise`` learner and starts from the same checkpoint.
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


StagedLearner = AlgorithmOne | Layerwise | MatchedComputeControl
HierarchicalLearner = StagedLearner | Joint
AnyLearner = (
    AlgorithmOne
    | Joint
    | Layerwise
    | MatchedComputeControl
    | KernelRidge
    | RecursiveFeatureMachine
    | AnyBaseline
)
LearnerSpec = Annotated[AnyLearner, Field(discriminator="kind", title="LearnerSpec")]


def label_of(learner: AnyLearner) -> str:
    """A short readable name that tells apart what a table's reader must tell apart."""
    match learner:
        case KernelRidge():
            name = label_of_kernel(learner.kernel)
            given = " given (x, x²−1)" if learner.feature_map == "quadratic" else ""
            return f"kernel_ridge {name}{given}"
        case RecursiveFeatureMachine():
            return learner.kind + (" given (x, x²−1)" if learner.feature_map == "quadratic" else "")
        case Baseline():
            return label_of_baseline(learner)
        case _:
            return learner.kind
