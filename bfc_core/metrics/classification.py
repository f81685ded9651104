"""What scores are worth as a classifier."""

from jaxtyping import Float
from torch import Tensor


def accuracy_of(score: Float[Tensor, " n"], labels: Float[Tensor, " n"]) -> float:
    """Share of rows (x₀, x) on which the sign of the score is the label ±1; a score of 0 counts as +1."""
    return float(((score >= 0) == (labels > 0)).double().mean())


def class_accuracy_of(scores: Float[Tensor, "n c"], one_hot: Float[Tensor, "n c"]) -> float:
    """Share of rows on which the class of the largest score is the right one."""
    return float((scores.argmax(1) == one_hot.argmax(1)).double().mean())


def calibrated(score: Float[Tensor, " n"], offset: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The score over its own linear coefficient on x₀, which is 1 in the margin x₀ + G*(x).

    A score is only known up to scale; unchanged where it does not grow with x₀ at all.
    """
    centred = (offset - offset.mean()).double()
    coefficient = (score.double() @ centred) / centred.square().sum()
    return score / coefficient.to(score.dtype) if float(coefficient) > 0 else score
