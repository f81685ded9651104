"""The data terms against autograd, and the classification objective as the paper writes it."""

from typing import Literal

import pytest
import torch

from bfc_core.seeding import generator_for
from bfc_core.specs import AlgorithmOne
from bfc_core.training.objective import Objective


@pytest.mark.parametrize("loss", ["huber", "squared", "logistic"])
def test_every_slope_is_the_derivative_of_its_value(loss: Literal["huber", "squared", "logistic"]) -> None:
    objective = Objective(loss, delta=0.3, margin_slope=4.0)
    predicted = torch.randn(2, 50, generator=generator_for(1, "test"), dtype=torch.float64).requires_grad_()
    y = torch.randn(2, 50, generator=generator_for(2, "test"), dtype=torch.float64).sign()
    (expected,) = torch.autograd.grad(objective.value(predicted, y).sum(), predicted)
    torch.testing.assert_close(objective.row_slopes(predicted.detach(), y) / 50, expected)


def test_the_classification_objective_is_the_paper_s() -> None:
    objective = Objective.of(AlgorithmOne(kind="algorithm_1", margin_slope=7.0), "classification")
    margin, y = torch.tensor([[0.4, -2.0]], dtype=torch.float64), torch.tensor([[1.0, 1.0]])
    expected = (1 + (-7.0 * y * margin).exp()).log().mean()
    torch.testing.assert_close(objective.value(margin, y)[0], expected)
    assert objective.regularizer_weight == 7.0
    assert Objective.of(AlgorithmOne(kind="algorithm_1"), "regression").regularizer_weight == 1.0
    # Far on the wrong side the loss is linear, not infinite.
    assert objective.value(torch.tensor([[-1e6]]), torch.tensor([[1.0]])).isfinite().all()
