"""From a baseline's spec to its fit: the one match."""

from typing import assert_never

from jaxtyping import Float
from torch import Tensor

from bfc_core.learners.baseline import FitContext, FittedFunction
from bfc_core.learners.feature_map_regression import fit_feature_map_regression
from bfc_core.learners.kernel_baselines import (
    fit_empirical_ntk,
    fit_linear,
    fit_random_features,
    fit_sequential_kernel,
)
from bfc_core.learners.kernel_ridge import FittedKernel
from bfc_core.learners.quadratic_network import fit_quadratic_network
from bfc_core.learners.sanity_baselines import fit_gradient_boosting, fit_nearest_neighbours, fit_oracle
from bfc_core.learners.sparse_coding import fit_sparse_coding
from bfc_core.learners.spectral_baselines import (
    fit_back_lofi,
    fit_forward_lofi,
    fit_one_giant_step,
    fit_staged_spectral,
    fit_tensor_decomposition,
)
from bfc_core.specs import baselines as specs
from bfc_core.targets.base import Target


def fit_baseline(  # noqa: C901, PLR0911, PLR0912 - one case a kind
    learner: specs.AnyBaseline,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"] | Float[Tensor, "n c"],
    target: Target,
    context: FitContext,
) -> FittedFunction | FittedKernel:
    """Fit on float64 samples; of images ``y`` has a column a class. Only the oracle looks at ``target``.

    Raises:
        KernelNotPositiveDefinite: no ridge of a grid can be solved for.
    """
    match learner:
        case specs.EmpiricalNtk():
            return fit_empirical_ntk(learner, x, y, context)
        case specs.RandomFeatures():
            return fit_random_features(learner, x, y, context)
        case specs.FeatureMapRegression():
            return fit_feature_map_regression(learner, x, y, context)
        case specs.SequentialKernel():
            return fit_sequential_kernel(learner, x, y, context)
        case specs.Linear():
            return fit_linear(learner, x, y, context)
        case specs.NearestNeighbours():
            return fit_nearest_neighbours(learner, x, y, context)
        case specs.GradientBoosting():
            return fit_gradient_boosting(learner, x, y, context)
        case specs.Oracle():
            return fit_oracle(learner, x, y, target, context)
        case specs.OneGiantStep():
            return fit_one_giant_step(learner, x, y, context)
        case specs.StagedSpectral():
            return fit_staged_spectral(learner, x, y, context)
        case specs.ForwardLofi():
            return fit_forward_lofi(learner, x, y, context)
        case specs.BackLofi():
            return fit_back_lofi(learner, x, y, context)
        case specs.TensorDecomposition():
            return fit_tensor_decomposition(learner, x, y, context)
        case specs.SparseCoding():
            return fit_sparse_coding(learner, x, y, context)
        case specs.QuadraticNetwork():
            return fit_quadratic_network(learner, x, y, context)
        case _:
            assert_never(learner)
