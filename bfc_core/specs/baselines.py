"""Learners without levels of their own: what every hierarchical learner is compared with.

Each is tuned on its own training samples only: by closed-form leave-one-out, or on a held-out part of them. What the
tuning tried is in the report (``candidates_tried``), and its time is in the run's seconds.
"""

from math import comb
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bfc_core.specs.base import NonNegativeFloat, PositiveFloat, Spec
from bfc_core.specs.kernels import (
    BiasVariance,
    KernelSpec,
    NetworkActivation,
    WeightVariance,
    image_kernels,
    label_of_kernel,
)

Ridges = Annotated[
    tuple[PositiveFloat, ...] | None,
    Field(min_length=1, max_length=200, description="relative to the mean of the gram's diagonal"),
]
ValidationFraction = Annotated[
    float, Field(gt=0, lt=0.9, allow_inf_nan=False, description="held out of the training samples for tuning")
]
Width = Annotated[int, Field(ge=1, le=65_536)]
Rank = Annotated[int, Field(ge=1, le=256)]
Degree = Annotated[int, Field(ge=1, le=8)]


class Baseline(Spec):
    """Base of the learners of this file."""


class EmpiricalNtk(Baseline):
    """Kernel ridge on the tangent kernel of a finite dense network at its random start (NTK parametrisation)."""

    kind: Literal["empirical_ntk"]
    width: Annotated[int, Field(ge=1, le=65_536)] = 512
    depth: Annotated[int, Field(ge=1, le=10, description="hidden layers")] = 1
    activation: NetworkActivation = "relu"
    weight_variance: WeightVariance = None
    bias_variance: BiasVariance = 0.1
    ridges: Ridges = None


class RandomFeatures(Baseline):
    """Ridge regression on random features: ReLU neurons, or cosines whose kernel tends to an RBF's.

    Rahimi and Recht, "Random Features for Large-Scale Kernel Machines" (2007).
    """

    kind: Literal["random_features"]
    features: Literal["relu", "fourier"] = "relu"
    count: Annotated[int, Field(ge=1, le=65_536)] = 1000
    bandwidths: Annotated[
        tuple[PositiveFloat, ...],
        Field(min_length=1, max_length=20, description="of 'fourier', as those of the RBF kernel"),
    ] = (0.5, 1.0, 2.0, 4.0, 8.0)
    ridges: Ridges = None


class FeatureMapRegression(Baseline):
    """Linear regression on all monomials, or products of Hermite polynomials, up to a total degree.

    ``ridge`` is tuned by leave-one-out; ``lasso``, ``lars`` and ``omp`` follow their whole path and stop where the
    held-out error is least.
    """

    kind: Literal["feature_map_regression"]
    basis: Literal["monomial", "hermite"] = "hermite"
    degree: Degree = 2
    method: Literal["ridge", "lasso", "lars", "omp"] = "ridge"
    most_terms: Annotated[
        int, Field(ge=1, le=5000, description="terms at which 'lars' and 'omp' stop, and steps of 'lasso'")
    ] = 200
    ridges: Ridges = None
    validation_fraction: ValidationFraction = 0.2


class SequentialKernel(Baseline):
    """Kernel ridge applied level by level: every stage reads x and what the stages below predict.

    In training a stage reads the leave-one-out predictions of those below, so that it meets at test time what it
    was trained on. The stage with the least leave-one-out error answers.
    """

    kind: Literal["sequential_kernel"]
    kernel: KernelSpec
    stages: Annotated[int, Field(ge=1, le=8)] = 3
    ridges: Ridges = None

    @model_validator(mode="after")
    def _reads_more_than_images(self) -> Self:
        if any(True for _ in image_kernels(self.kernel)):
            raise ValueError("a stage reads predictions beside x: a kernel on images cannot")
        return self


class Linear(Baseline):
    """Ridge regression on x, tuned by leave-one-out."""

    kind: Literal["linear"]
    ridges: Ridges = None


class NearestNeighbours(Baseline):
    """The mean, weighted by inverse distance, of the nearest training samples; their number is held-out's choice."""

    kind: Literal["nearest_neighbours"]
    neighbours: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1, max_length=20)
    ] = (1, 3, 10, 30)
    validation_fraction: ValidationFraction = 0.2


class GradientBoosting(Baseline):
    """Histogram gradient boosting of scikit-learn; depth and step size are chosen on held-out samples."""

    kind: Literal["gradient_boosting"]
    step_sizes: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1, max_length=10)
    ] = (0.03, 0.1)
    depths: Annotated[tuple[Annotated[int, Field(ge=1, le=20)], ...], Field(min_length=1, max_length=10)] = (
        3,
        6,
    )
    most_trees: Annotated[int, Field(ge=1, le=5000)] = 500
    validation_fraction: ValidationFraction = 0.2


class Oracle(Baseline):
    """What is reached with knowledge that no learner has: the floor and the ceiling of a comparison.

    ``features`` gives the target's own level features, and their squares, to ridge regression; ``bayes`` is the
    target itself; ``constant`` is the mean of the labels.
    """

    kind: Literal["oracle"]
    knows: Literal["features", "bayes", "constant"] = "features"
    ridges: Ridges = None


class OneGiantStep(Baseline):
    """A two-layer network after one large gradient step on its first layer, then ridge on its neurons.

    Ba et al., arXiv:2205.01445. The step uses one half of the samples and the ridge regression the other.
    """

    kind: Literal["one_giant_step"]
    width: Width = 1000
    step_size: PositiveFloat = Field(
        default=1.0, le=1000, description="in units of √width times the gradient"
    )
    activation: Literal["relu", "erf"] = "relu"
    ridges: Ridges = None


class StagedSpectral(Baseline):
    """A degree-2 stage, then a polynomial of what the stage found on the other half of the samples.

    The estimate of the first stage is clipped to the range that the second was trained on
    (arXiv:2305.06986, arXiv:2311.13774: targets g(p(x)) with a quadratic p).
    """

    kind: Literal["staged_spectral"]
    degree: Annotated[int, Field(ge=1, le=8, description="largest degree of the second stage")] = 4
    ridges: Ridges = None


class ForwardLofi(Baseline):
    """Spectral layers: filters are the leading eigenvectors of E[(y − ȳ) z zᵀ], z the layer's inputs.

    A layer hands on its filters' outputs and their products; ridge regression on the last layer's outputs answers.
    """

    kind: Literal["forward_lofi"]
    layers: Annotated[int, Field(ge=1, le=4)] = 2
    filters: Annotated[int, Field(ge=1, le=30)] = 8
    ridges: Ridges = None


class BackLofi(Baseline):
    """``forward_lofi`` with backward passes.

    In every pass the weakest filters of the first layer give way to directions of the residual, and stay where the
    held-out error falls.
    """

    kind: Literal["back_lofi"]
    layers: Annotated[int, Field(ge=1, le=4)] = 2
    filters: Annotated[int, Field(ge=1, le=30)] = 8
    passes: Annotated[int, Field(ge=1, le=20)] = 3
    ridges: Ridges = None
    validation_fraction: ValidationFraction = 0.2


class TensorDecomposition(Baseline):
    """Directions from the moment tensor E[y He_k(x)] by power iteration with deflation, then ridge on their powers.

    A target that is even in x has no third moment: order 4 is for those.
    """

    kind: Literal["tensor_decomposition"]
    order: Literal[3, 4] = 3
    components: Annotated[int, Field(ge=1, le=64)] = 4
    degree: Annotated[int, Field(ge=1, le=8, description="largest power of a direction")] = 4
    ridges: Ridges = None


class SparseCoding(Baseline):
    """A dictionary of x (scikit-learn, mini-batches), and ridge regression on the codes and their squares."""

    kind: Literal["sparse_coding"]
    atoms: Annotated[int, Field(ge=1, le=1024)] = 64
    nonzero: Annotated[int, Field(ge=1, le=256, description="atoms in one code")] = 5
    ridges: Ridges = None


class QuadraticNetwork(Baseline):
    """f̂ = c + v₁ᵀh + v₂ᵀ(W₂h)², h = (W₁x)² − ‖w‖² by row: two quadratic layers with readouts, trained in two phases.

    In the first phase the lower layer is alone in the output. ``second`` says what moves in as many steps more, from
    the same parameters: ``joint`` both layers, ``layerwise`` the upper one over the frozen lower one, ``again`` the
    lower one, still alone: the matched-compute control of the other two. Mean squared error plus
    ``weight_decay``/2 times the sum of the squared parameters; Adam, its step size a cosine in every phase.
    """

    kind: Literal["quadratic_network"]
    second: Literal["joint", "layerwise", "again"] = "joint"
    widths: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], Annotated[int, Field(ge=1, le=1024)]],
        Field(description="neurons of the lower and of the upper layer"),
    ] = (20, 10)
    steps_per_phase: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 256
    step_size: Annotated[PositiveFloat, Field(le=10)] = 5e-3
    weight_decay: Annotated[NonNegativeFloat, Field(le=10)] = 1e-4
    clip_norm: PositiveFloat = 1.0
    init_scale: Annotated[
        PositiveFloat,
        Field(
            le=10,
            description="of an initial weight: its standard deviation times √(numbers that its row reads)",
        ),
    ] = 0.3


AnyBaseline = (
    EmpiricalNtk
    | RandomFeatures
    | FeatureMapRegression
    | SequentialKernel
    | Linear
    | NearestNeighbours
    | GradientBoosting
    | Oracle
    | OneGiantStep
    | StagedSpectral
    | ForwardLofi
    | BackLofi
    | TensorDecomposition
    | SparseCoding
    | QuadraticNetwork
)


def feature_count(dim: int, degree: int) -> int:
    """Products of total degree at most ``degree`` in ``dim`` variables, the constant left out."""
    return comb(dim + degree, degree) - 1


def label_of_baseline(learner: AnyBaseline) -> str:  # noqa: PLR0911 - one a kind
    """A short readable name that tells apart what a table's reader must tell apart."""
    match learner:
        case EmpiricalNtk():
            return f"empirical_ntk width {learner.width} depth {learner.depth} {learner.activation}"
        case RandomFeatures():
            return f"random_features {learner.features} {learner.count}"
        case FeatureMapRegression():
            return f"feature_map_regression {learner.basis} degree {learner.degree} {learner.method}"
        case SequentialKernel():
            return f"sequential_kernel {label_of_kernel(learner.kernel)}"
        case Oracle():
            return f"oracle {learner.knows}"
        case QuadraticNetwork():
            return f"quadratic_network {learner.second}"
        case _:
            return learner.kind
