"""InitialDistill of Algorithm 1 (arXiv:2001.04413 §4): the first narrow copy K of a trained wide W.

The paper takes the rank-k SVD W_◁ᵀW_{ℓ−1} = UΣV and splits it evenly, K_◁ᵀ = UΣ^{1/2}, K_{ℓ−1} = Σ^{1/2}V,
with k the number of singular values above a threshold. Two deviations: the even split is right only where
both blocks have one norm, so the split is scaled until ‖K_{ℓ−1}ᵀK_{ℓ−1}‖ is that of W; and level 2 has no ◁, so
there K is the truncated eigendecomposition of WᵀW. The scale is not read off the other block, W_◁ᵀW_◁: that
one also carries what lower levels have not learnt yet (a level that reads x² − 1 can stand in for level 2),
multiplied by the ratio of their α, whereas nothing below has the degree of h_{ℓ−1}'s own block.
The threshold is relative to the largest singular value, because the scale of a level is a convention
(the paper's is 1/(10κ²) on unit scale).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.networks.distilled_densenet import LevelShape

RANK_THRESHOLD = 0.1
"""Singular values below this share of the largest do not count towards k_ℓ."""


def initial_distill(
    w: Float[Tensor, "m i"], level: int, shape: LevelShape, threshold: float | None = None
) -> tuple[Float[Tensor, "k i"], int]:
    """K_ℓ from W_ℓ, with all its k rows, and how many of them the threshold counts.

    ``threshold`` is the paper's own, on the singular values as they are; None is the relative one.

    Letters: m rows of W, i length of h_ℓ, k rows of K.
    """
    form = (w.mT @ w).double()
    distilled = form.new_zeros(shape.k, shape.i)
    others = [j for j in shape.sources if j != level - 1]
    if not others or level - 1 not in shape.sources:
        values, vectors = torch.linalg.eigh(form)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        kept = min(shape.k, len(values))
        distilled[:kept] = vectors[:, :kept].mT * values[:kept].sqrt()[:, None]
        return distilled.to(w.dtype), _rank(values, shape.k, threshold)
    below = torch.zeros(shape.i, dtype=torch.bool, device=w.device)
    below[shape.columns(level - 1)] = True
    u, values, v = torch.linalg.svd(form[~below][:, below], full_matrices=False)
    kept = min(shape.k, len(values))
    root = values[:kept].sqrt()[:, None]
    rows_others, rows_below = root * u[:, :kept].mT, root * v[:kept]
    tiny = torch.finfo(form.dtype).tiny
    wanted, found = form[below][:, below].norm(), (rows_below.mT @ rows_below).norm()
    scale = (wanted / found.clamp_min(tiny)).sqrt().clamp(1e-3, 1e3)
    distilled[:kept, ~below] = rows_others / scale
    distilled[:kept, below] = rows_below * scale
    return distilled.to(w.dtype), _rank(values, shape.k, threshold)


def _rank(values: Float[Tensor, " r"], most: int, threshold: float | None) -> int:
    """Number of singular values that count, at least 1 so that a level always has a feature."""
    least = RANK_THRESHOLD * values[0] if threshold is None else threshold
    counted = int((values >= least).sum())
    return max(1, min(counted, most, len(values)))
