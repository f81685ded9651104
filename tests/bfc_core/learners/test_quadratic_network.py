"""The two-layer quadratic network: its phases, its form, and that every way on starts from one checkpoint."""

from typing import Any

import pytest
import torch

from bfc_core.inputs import draw_inputs
from bfc_core.kernels.shared import SharedGrams
from bfc_core.learners import quadratic_network
from bfc_core.learners.baseline import FitContext, FittedFunction
from bfc_core.learners.quadratic_network import Layers, fit_quadratic_network
from bfc_core.run import execute_pack
from bfc_core.specs import GaussianInputs, RunSpec
from bfc_core.specs.baselines import QuadraticNetwork

DIM = 6
X = draw_inputs(GaussianInputs(kind="gaussian"), 400, DIM, 1, "inputs")


def fitted(y: torch.Tensor, **fields: object) -> FittedFunction:
    learner = QuadraticNetwork.model_validate(
        {"kind": "quadratic_network", "widths": [6, 3], "steps_per_phase": 400, "batch_size": 64} | fields
    )
    return fit_quadratic_network(learner, X, y, FitContext(5, lambda *_: None, SharedGrams()))


def run(alpha: float, second: str, seed: int) -> RunSpec:
    return RunSpec.model_validate(
        {
            "target": {"kind": "stacked_quadratic", "widths": [2, 1], "alpha": alpha},
            "learner": {"kind": "quadratic_network", "second": second, "widths": [8, 4]},
            "n": 300,
            "dim": 8,
            "seed": seed,
            "budget": {"test_samples": 500},
        }
    )


def test_the_lower_layer_alone_is_its_form_and_has_no_mean() -> None:
    layers = Layers(DIM, (5, 3))
    flat = layers.draw(torch.Generator().manual_seed(1), 1.0)
    form = layers.form(flat)
    expected = torch.einsum("ni,ij,nj->n", X, form, X) - form.trace()
    torch.testing.assert_close(layers.forward(flat, X, upper=False), expected)
    part = layers.parts(flat)
    h = (X @ part["W1"].mT).square() - part["W1"].square().sum(1)
    above = (h @ part["W2"].mT).square() @ part["v2"]
    torch.testing.assert_close(layers.forward(flat, X, upper=True), expected + above)


def test_ways_on_differ_in_what_moves_and_start_from_one_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    y = X[:, 0].square() - 1 + 0.3 * (X[:, 0].square() - 1) * (X[:, 1].square() - 1)
    starts: dict[str, torch.Tensor] = {}
    trained = quadratic_network._trained

    def watched(*arguments: Any, **options: Any) -> torch.Tensor:
        if arguments[5] == 1:
            starts[str(len(starts))] = arguments[2].clone()
        return trained(*arguments, **options)

    monkeypatch.setattr(quadratic_network, "_trained", watched)
    again, layerwise, joint = (fitted(y, second=second) for second in ("again", "layerwise", "joint"))
    assert len(starts) == 3
    assert torch.equal(starts["0"], starts["1"])
    assert torch.equal(starts["0"], starts["2"])
    # What layerwise training hands on is the checkpoint's lower layer, which the other two have moved.
    checkpoint = quadratic_network.Layers(DIM, (6, 3)).form(starts["0"])
    assert torch.equal(layerwise.level_forms[1], checkpoint)
    assert not torch.equal(again.level_forms[1], checkpoint)
    assert not torch.equal(joint.level_forms[1], checkpoint)
    errors = [float((fit(X) - y).square().mean()) for fit in (again, layerwise, joint)]
    assert errors[0] > errors[1] > errors[2]


def test_a_form_is_recovered_where_the_target_is_one() -> None:
    y = (X[:, 0].square() - 1) - 0.5 * (X[:, 1].square() - 1)
    found = fitted(y, second="again", weight_decay=0.0, steps_per_phase=2000)
    torch.testing.assert_close(
        found.level_forms[1], torch.diag(torch.tensor([1, -0.5, 0, 0, 0, 0.0])).double(), rtol=0, atol=1e-3
    )


def test_weight_decay_keeps_the_weights_small() -> None:
    y = X[:, 0].square() - 1
    free, held = (fitted(y, second="again", weight_decay=decay) for decay in (0.0, 1.0))
    assert float(held.level_forms[1].norm()) < 0.9 * float(free.level_forms[1].norm())


def test_correction_improves_the_form_of_level_1_and_further_training_does_not() -> None:
    reports = execute_pack([run(1.0, second, seed=21) for second in ("again", "joint")])
    again, joint = (report.metrics.form_error[1] for report in reports if report.metrics is not None)
    assert again is not None
    assert joint is not None
    assert again > 2 * joint


@pytest.mark.parametrize("kind", ["hierarchical_quadratic", "worked_example_1"])
def test_the_form_of_level_2_is_reported_beside_its_feature(kind: str) -> None:
    spec = RunSpec.model_validate(
        {
            "target": {"kind": kind},
            "learner": {"kind": "algorithm_1", "width": 8, "batch_size": 64, "steps_per_stage": 300},
            "n": 600,
            "dim": 6,
            "seed": 3,
            "budget": {"test_samples": 500},
        }
    )
    (report,) = execute_pack([spec])
    assert report.metrics is not None
    form, feature = report.metrics.form_error[2], report.metrics.feature_error[2]
    assert form is not None
    assert feature is not None
    # Both vanish together: S = U S* for every x says that KᵀK = W*ᵀW*.
    assert form < 4 * feature**0.5 + 1e-6
    assert list(report.metrics.form_error) == [2]
