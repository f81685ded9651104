"""When a training has diverged although all its numbers are finite: Adam's steps and truncation keep them so.

A network that was thrown far away ends with an objective on its own training samples many times above that of the
function 0, from which training begins. However little was learnt, and however noisy labels are, a training that did
not diverge ends below that.
"""

from bfc_core.evaluation import Problem
from bfc_core.learners.predictor import Predictor
from bfc_core.training.measuring import MEASURED_ROWS
from bfc_core.training.objective import Objective

LOST = 10
"""Times the objective of the function 0."""

FAR_OFF = f"ended far off, with over {LOST} times the objective of the function 0 on training samples"
"""What happened to the parameters, for messages."""


def is_lost(problem: Problem, predictor: Predictor, objective: Objective) -> bool:
    """Whether predictions on training rows are no result: not finite, or much worse than F = 0."""
    x, y = problem.x[:MEASURED_ROWS], problem.y[:MEASURED_ROWS]
    # With classification's x₀ the function 0 predicts x₀.
    nothing = x[:, 0] if objective.loss == "logistic" else y.new_zeros(len(y))
    found, begun = objective.value(predictor(x)[None], y[None]), objective.value(nothing[None], y[None])
    return not bool(found <= LOST * begun)
