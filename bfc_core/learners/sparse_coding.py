"""A dictionary of the inputs, and ridge regression on the codes: features that know nothing of the labels."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.flops.baselines import codes as codes_flops
from bfc_core.flops.baselines import dictionary as dictionary_flops
from bfc_core.flops.counting import charge
from bfc_core.learners.baseline import FitContext, FittedFunction, ridge_on
from bfc_core.specs.baselines import SparseCoding

PASSES = 20


def fit_sparse_coding(
    learner: SparseCoding, x: Float[Tensor, "n d"], y: Float[Tensor, " n"], context: FitContext
) -> FittedFunction:
    """Atoms by mini-batch dictionary learning, codes by orthogonal matching pursuit, then ridge."""
    from sklearn.decomposition import MiniBatchDictionaryLearning  # noqa: PLC0415 - docs/decisions/0057

    nonzero = min(learner.nonzero, learner.atoms, x.shape[1])
    dictionary = MiniBatchDictionaryLearning(
        n_components=learner.atoms,
        batch_size=min(256, len(x)),
        max_iter=PASSES,
        transform_algorithm="omp",
        transform_n_nonzero_coefs=nonzero,
        random_state=context.seed,
    )
    with warnings.catch_warnings():
        # Codes that end early represent their sample exactly, and atoms may depend on each other: no failures.
        warnings.simplefilter("ignore")
        dictionary.fit(x.numpy())
    batches = dictionary.n_steps_
    learnt = batches * min(256, len(x))
    charge(dictionary_flops(learnt, x.shape[1], learner.atoms, nonzero, batches))

    def features(rows: Tensor) -> Tensor:
        charge(codes_flops(len(rows), rows.shape[1], learner.atoms, nonzero))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codes = torch.from_numpy(dictionary.transform(rows.numpy()))
        return torch.cat([codes, codes.square()], dim=1)

    fitted = ridge_on(features, 2 * learner.atoms, x, y, learner.ridges, context)
    return FittedFunction(fitted, fitted.selection | {"nonzero": nonzero}, fitted.warnings)
