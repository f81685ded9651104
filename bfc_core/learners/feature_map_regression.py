"""Regression on all products up to a degree: ridge, or sparse with the number of terms chosen on held-out samples."""

import warnings
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.baselines import sparse_path
from bfc_core.flops.counting import charge
from bfc_core.kernels.explicit import FeatureFunction, product_features
from bfc_core.learners.baseline import FitContext, FittedFunction, mean_squares, ridge_on
from bfc_core.learners.kernel_ridge import FittedKernel
from bfc_core.specs.baselines import FeatureMapRegression
from bfc_core.spread import spread_of

Sparse = Literal["lasso", "lars", "omp"]


def fit_feature_map_regression(
    learner: FeatureMapRegression, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction | FittedKernel:
    """Ridge by leave-one-out; or a path of sparse fits, judged on held-out samples and refitted on all."""
    function, count = product_features(x.shape[1], learner.degree, learner.basis)
    if learner.method == "ridge":
        return ridge_on(function, count, x, y, learner.ridges, context)
    method: Sparse = learner.method
    trained, held_out = context.split(len(x), learner.validation_fraction)
    scaled = _Standardised.of(function, x[trained])
    path = _path(method, scaled(x[trained]), y[trained], learner.most_terms)
    context.progress(1, 2)
    predicted = scaled(x[held_out]) @ path + y[trained].mean()
    errors = mean_squares(predicted, y[held_out])
    best = int(errors.argmin())
    all_scaled = _Standardised.of(function, x)
    whole = _path(method, all_scaled(x), y, max(1, best))
    coefficients = whole[:, min(best, whole.shape[1] - 1)]
    context.progress(2, 2)
    mean = y.mean()
    remarks: tuple[str, ...] = ()
    if best == learner.most_terms:
        remarks = (f"the last of {best} steps of the path was the best: more terms may do better",)
    return FittedFunction(
        lambda fresh: all_scaled(fresh) @ coefficients + mean,
        {
            "terms": int((coefficients != 0).sum()),
            "features": count,
            "held_out_mse": float(errors[best]),
            "candidates_tried": path.shape[1],
            "validation_samples": len(held_out),
        },
        remarks,
    )


class _Standardised:
    """Features with mean 0 and variance 1 on the training samples: a path must not depend on their units.

    What does not vary there is 0 everywhere.
    """

    def __init__(self, function: FeatureFunction, mean: Tensor, spread: Tensor) -> None:
        self._function, self._mean, self._spread = function, mean, spread

    @classmethod
    def of(cls, function: FeatureFunction, x: Float[Tensor, "n d"]) -> "_Standardised":
        values = function(x)
        return cls(function, values.mean(0), spread_of(values))

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
        return self._function(x).sub_(self._mean).div_(self._spread)


def _path(
    method: Sparse, features: Float[Tensor, "n r"], y: Float[Tensor, " n"], most_steps: int
) -> Float[Tensor, "r s"]:
    """Coefficients after 0, 1, … steps for centred targets; fewer steps where a fit becomes exact."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - docs/decisions/0057

    with warnings.catch_warnings():
        # Ending early at an exact fit, and dependent features, are no failures of a path that is cut anyway.
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        path = _steps(method, features, y, most_steps)
    charge(sparse_path(method, len(features), features.shape[1], path.shape[1] - 1))
    return path


def _steps(
    method: Sparse, features: Float[Tensor, "n r"], y: Float[Tensor, " n"], most_steps: int
) -> Float[Tensor, "r s"]:
    from sklearn.linear_model import lars_path, orthogonal_mp  # noqa: PLC0415 - docs/decisions/0057

    start = torch.zeros(features.shape[1], 1, dtype=features.dtype)
    spread = y.std(unbiased=False)
    if not spread > 0:
        return start
    # The library stops at correlations that are small in absolute terms: labels must have no units.
    centred = ((y - y.mean()) / spread).numpy()
    if method == "omp":
        terms = min(most_steps, features.shape[1], len(centred) - 1)
        steps = orthogonal_mp(features.numpy(), centred, n_nonzero_coefs=terms, return_path=True)
        steps = np.asarray(steps).reshape(features.shape[1], -1)
        return torch.cat([start, torch.from_numpy(steps) * spread], dim=1)
    _, _, steps = lars_path(
        features.numpy(), centred, method="lasso" if method == "lasso" else "lar", max_iter=most_steps
    )
    return torch.from_numpy(np.ascontiguousarray(steps)) * spread
