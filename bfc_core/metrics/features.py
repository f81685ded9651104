"""How well a learner's feature of a level is the target's feature, up to what no learner can know."""

import torch
from jaxtyping import Float
from torch import Tensor


def feature_error(found: Float[Tensor, "n j"], true: Float[Tensor, "n k"]) -> float:
    """min over U with orthonormal rows or columns of E‖S* − S Uᵀ‖² / E‖S*‖² (orthogonal Procrustes).

    Theorem 2 of arXiv:2001.04413 bounds this quantity times E‖S*‖². Widths may differ; the minimum is
    (‖S*‖² + ‖S‖² − 2‖S*ᵀS‖_nuclear) / ‖S*‖².
    """
    found, true = found.double(), true.double()
    cross = torch.linalg.svdvals(true.mT @ found).sum()
    total = true.square().sum()
    return float(((total + found.square().sum() - 2 * cross) / total).clamp_min(0))


def feature_error_scale_free(found: Float[Tensor, "n j"], true: Float[Tensor, "n k"]) -> float:
    """The same with the best common scale of S: 1 − ‖S*ᵀS‖_nuclear² / (‖S*‖² ‖S‖²); 1 where S is zero."""
    found, true = found.double(), true.double()
    cross = torch.linalg.svdvals(true.mT @ found).sum()
    norms = true.square().sum() * found.square().sum()
    return float((1 - cross.square() / norms).clamp_min(0)) if norms > 0 else 1.0
