"""How well a learner's feature of a level is the target's feature, up to what no learner can know."""

import torch
from jaxtyping import Float
from torch import Tensor


def feature_error(found: Float[Tensor, "n j"], true: Float[Tensor, "n k"]) -> float:
    """min over U with orthonormal rows or columns of E‖S* − S Uᵀ‖² / E‖S*‖² (orthogonal Procrustes).

    Theorem 2 of arXiv:2001.04413 bounds this quantity times E‖S*‖². Widths may differ; the minimum is
    (‖S*‖² + ‖S‖² − 2‖S*ᵀS‖_nuclear) / ‖S*‖².
    """
    return feature_errors(found, true)[0]


def feature_error_scale_free(found: Float[Tensor, "n j"], true: Float[Tensor, "n k"]) -> float:
    """The same with the best common scale of S: 1 − ‖S*ᵀS‖_nuclear² / (‖S*‖² ‖S‖²); 1 where S is zero."""
    return feature_errors(found, true)[1]


def feature_errors(found: Float[Tensor, "n j"], true: Float[Tensor, "n k"]) -> tuple[float, float]:
    """:func:`feature_error` and :func:`feature_error_scale_free`, which share nearly all of their work."""
    found, true = found.double(), true.double()
    cross = torch.linalg.svdvals(true.mT @ found).sum()
    total, size = true.square().sum(), found.square().sum()
    error = float(((total + size - 2 * cross) / total).clamp_min(0))
    norms = total * size
    return error, float((1 - cross.square() / norms).clamp_min(0)) if norms > 0 else 1.0


def form_error(found: Float[Tensor, "i i"], true: Float[Tensor, "i i"]) -> float:
    """min over c of ‖M̂ − cM*‖ / ‖cM*‖ in Frobenius norm: the sine of the angle between the two; 1 where M̂ is zero.

    Scale-free, and unlike the feature errors a ratio of norms, not of their squares.
    """
    found, true = found.double(), true.double()
    norm = found.norm()
    if norm == 0:
        return 1.0
    # Not √(1 − cos²), which loses half of the digits of a small angle.
    unit = true / true.norm()
    return float((found - (found * unit).sum() * unit).norm() / norm)


def alignment(found: Float[Tensor, "n j"], true: Float[Tensor, "n k"]) -> float:
    """Mean cos² of the principal angles between the spans of S* and S over the rows; 1 where S* lies in S's span.

    Blind to any linear map of S, so it says whether a level is in sight, not whether it is recovered.
    """
    return alignment_to_basis(found, orthonormal_basis(true))


def alignment_to_basis(found: Float[Tensor, "n j"], true_basis: Float[Tensor, "n r"]) -> float:
    """:func:`alignment`, given the orthonormal basis of the span of S*."""
    found_basis = orthonormal_basis(found)
    if true_basis.shape[1] == 0 or found_basis.shape[1] == 0:
        return 0.0
    return float((true_basis.mT @ found_basis).square().sum() / true_basis.shape[1])


def weight_cosine(before: Float[Tensor, "r i"], after: Float[Tensor, "r i"]) -> float:
    """Mean over neurons (rows) of the cosine between their weights at two times; rows that are zero are left out."""
    before, after = before.double(), after.double()
    norms = before.norm(dim=1) * after.norm(dim=1)
    cosines = torch.linalg.vecdot(before, after)[norms > 0] / norms[norms > 0]
    return float(cosines.mean()) if len(cosines) else 0.0


def orthonormal_basis(feature: Float[Tensor, "n j"]) -> Float[Tensor, "n r"]:
    """An orthonormal basis of the columns' span, directions below 1e-10 of the largest dropped."""
    u, values, _ = torch.linalg.svd(feature.double(), full_matrices=False)
    basis: Tensor = u[:, values > 1e-10 * values.max().clamp_min(torch.finfo(torch.float64).tiny)]
    return basis
