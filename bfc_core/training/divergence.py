"""When a training has diverged although all its numbers are finite: Adam's steps and truncation keep them so.

A network that was thrown far away ends with an objective on its own training samples many times above that of the
function 0, from which training begins. However little was learnt, and however noisy labels are, a training that did
not diverge ends below that.
"""

from jaxtyping import Float
from torch import Tensor

from bfc_core.training.objective import Objective

LOST = 10
"""Times the objective of the function 0."""

FAR_OFF = f"ended far off, with over {LOST} times the objective of the function 0 on training samples"
"""What happened to the parameters, for messages."""


def is_lost(
    objective: Objective,
    predicted: Float[Tensor, " n"],
    y: Float[Tensor, " n"],
    offset: Float[Tensor, " n"] | None,
) -> bool:
    """Whether predictions on training rows are no result: not finite, or much worse than F = 0.

    ``predicted`` contains the ``offset`` x₀ of classification.
    """
    nothing = predicted.new_zeros(len(predicted)) if offset is None else offset
    found, begun = objective.value(predicted[None], y[None]), objective.value(nothing[None], y[None])
    return not bool(found <= LOST * begun)
