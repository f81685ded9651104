"""Recursive feature machines: the metric they find, the choices they make, what they refuse."""

from math import sqrt

import pytest
import torch

from bfc_core.errors import KernelNotPositiveDefinite, ResourceLimitExceeded
from bfc_core.kernel_cost import feature_machine_memory_bytes
from bfc_core.kernels.laplace import LaplaceKernel
from bfc_core.learners import recursive_feature_machine
from bfc_core.learners.recursive_feature_machine import (
    FittedFeatureMachine,
    average_gradient_outer_product,
    fit_recursive_feature_machine,
)
from bfc_core.specs import RecursiveFeatureMachine

DIM = 10


def normal(rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, DIM, generator=generator, dtype=torch.float64)


def target(x: torch.Tensor) -> torch.Tensor:
    """A function of one direction."""
    return torch.sin(x[:, :2].sum(1) * sqrt(2)) + 4


def fit(
    n: int = 300, *, seed: int = 0, feature_map: str = "identity", **body: object
) -> FittedFeatureMachine:
    learner = RecursiveFeatureMachine.model_validate(
        {"kind": "recursive_feature_machine", "rounds": 3, "feature_map": feature_map, **body}
    )
    x = normal(n)
    return fit_recursive_feature_machine(
        learner, x, target(x), torch.Generator().manual_seed(seed), lambda *_: None, None
    )


def error(fitted: FittedFeatureMachine) -> float:
    x = normal(500, seed=1)
    return float((fitted(x) - target(x)).square().mean() / target(x).var())


def test_the_metric_finds_the_direction_that_matters() -> None:
    fitted = fit()
    assert fitted.kernel.metric is not None
    _, vectors = torch.linalg.eigh(fitted.kernel.metric)
    direction = torch.zeros(DIM, dtype=torch.float64)
    direction[:2] = 1 / sqrt(2)
    assert float((vectors[:, -1] @ direction).square()) > 0.95
    torch.testing.assert_close(fitted.kernel.metric.diagonal().sum().item(), float(DIM))


def test_learning_the_metric_beats_the_same_kernel_without_it() -> None:
    fitted = fit()
    x = normal(300)
    fresh = normal(500, seed=1)
    plain = LaplaceKernel(float(fitted.selection["bandwidth"]))
    system = plain.gram(x) + float(fitted.selection["ridge"]) * torch.eye(300, dtype=torch.float64)
    weights = torch.linalg.solve(system, target(x) - target(x).mean())
    predicted = plain.gram(fresh, x) @ weights + target(x).mean()
    without = float((predicted - target(fresh)).square().mean() / target(fresh).var())
    assert error(fitted) < 0.5 * without


def test_one_round_is_the_formula_written_out() -> None:
    """Metric, weights and prediction of one round on all samples from dense algebra and autograd."""
    fitted = fit(60, rounds=1, bandwidths=[2.0], ridges=[0.1], validation_fraction=0.25)
    assert fitted.selection["rounds"] == 1
    x = normal(60)
    y = target(x)

    def kernel(a: torch.Tensor, b: torch.Tensor, metric: torch.Tensor) -> torch.Tensor:
        difference = a[:, None] - b[None]
        square = ((difference @ metric) * difference).sum(2)
        # The root has no derivative at 0; the pair of a point with itself is constant to the learner.
        return torch.where(square > 0, (-square.where(square > 0, 1.0).sqrt() / 2.0).exp(), 1.0)

    identity = torch.eye(DIM, dtype=torch.float64)
    system = kernel(x, x, identity) + 0.1 * torch.eye(60, dtype=torch.float64)
    weights = torch.linalg.solve(system, y - y.mean())
    at = x.clone().requires_grad_()
    (gradients,) = torch.autograd.grad((kernel(at, x, identity) @ weights).sum(), at)
    metric = gradients.mT @ gradients
    metric *= DIM / metric.diagonal().sum()
    torch.testing.assert_close(fitted.kernel.metric, metric, rtol=1e-8, atol=1e-10)
    fresh = normal(7, seed=1)
    final = torch.linalg.solve(
        kernel(x, x, metric) + 0.1 * torch.eye(60, dtype=torch.float64), target(x) - target(x).mean()
    )
    torch.testing.assert_close(
        fitted(fresh), kernel(fresh, x, metric) @ final + target(x).mean(), rtol=1e-8, atol=1e-8
    )


def test_label_noise_is_met_with_a_larger_ridge() -> None:
    learner = RecursiveFeatureMachine.model_validate(
        {"kind": "recursive_feature_machine", "rounds": 3, "ridges": [1e-6, 1.0, 1e5]}
    )
    x = normal(300)

    def ridge(noise: float) -> object:
        noisy = target(x) + noise * normal(300, seed=8)[:, 0]
        generator = torch.Generator().manual_seed(0)
        fitted = fit_recursive_feature_machine(learner, x, noisy, generator, lambda *_: None, None)
        return fitted.selection["ridge"]

    assert ridge(0.0) == 1e-6
    assert ridge(2.0) == 1.0


def test_ends_of_the_lists_are_flagged() -> None:
    narrow = fit(bandwidths=[0.05, 0.1], ridges=[1e-3])
    assert narrow.selection["at_edge"] is True
    assert any("bandwidth, 0.1," in warning for warning in narrow.warnings)
    single = fit(bandwidths=[10.0], ridges=[1e-3], rounds=8)
    assert not any("list" in warning for warning in single.warnings)
    impatient = fit(bandwidths=[10.0], ridges=[1e-3], rounds=1)
    assert any("more rounds" in warning for warning in impatient.warnings)


def test_large_samples_screen_on_a_subsample_and_finish_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recursive_feature_machine, "FEATURE_MACHINE_SUBSAMPLE", 100)
    counts = []
    learner = RecursiveFeatureMachine(kind="recursive_feature_machine", rounds=2)
    x = normal(300)
    fitted = fit_recursive_feature_machine(
        learner, x, target(x), torch.Generator().manual_seed(0), lambda *count: counts.append(count), None
    )
    pairs = len(learner.bandwidths) * len(learner.ridges)
    assert counts[0] == (0, 3 * (pairs + 3))
    assert [done for done, _ in counts] == sorted(done for done, _ in counts)
    assert counts[-1][0] == counts[-1][1]
    assert fitted.anchors.shape == (300, DIM)
    assert error(fitted) < 0.2


def test_the_same_generator_gives_the_same_numbers_and_another_another_split() -> None:
    fresh = normal(20, seed=3)
    assert torch.equal(fit(100)(fresh), fit(100)(fresh))
    assert fit(100).selection["held_out_nmse"] != fit(100, seed=1).selection["held_out_nmse"]


def test_the_quadratic_map_widens_the_metric() -> None:
    fitted = fit(80, feature_map="quadratic", rounds=1)
    assert fitted.anchors.shape == (80, 2 * DIM)
    assert fitted(normal(3)).shape == (3,)


def test_progress_may_stop_the_fit() -> None:
    learner = RecursiveFeatureMachine(kind="recursive_feature_machine")
    x = normal(50)

    def stop(solved: int, systems: int) -> None:
        if solved == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_recursive_feature_machine(learner, x, target(x), torch.Generator(), stop, None)


def test_more_memory_than_allowed_is_refused_before_work() -> None:
    learner = RecursiveFeatureMachine(kind="recursive_feature_machine")
    x, called = normal(50), []
    limit = feature_machine_memory_bytes(50, 0, DIM) - 1
    with pytest.raises(ResourceLimitExceeded, match="recursive_feature_machine on 50 samples"):
        fit_recursive_feature_machine(
            learner, x, target(x), torch.Generator(), lambda *count: called.append(count), limit
        )
    assert called == []


def test_targets_that_are_not_finite_are_refused_in_words() -> None:
    learner = RecursiveFeatureMachine(kind="recursive_feature_machine", rounds=1)
    x = normal(50)
    with pytest.raises(KernelNotPositiveDefinite, match="finite"):
        fit_recursive_feature_machine(
            learner, x, target(x) * torch.nan, torch.Generator(), lambda *_: None, None
        )


def test_the_unscaled_metric_is_the_mean_of_outer_products() -> None:
    gradients = normal(50)
    expected = torch.stack([torch.outer(row, row) for row in gradients]).mean(0)
    torch.testing.assert_close(average_gradient_outer_product(gradients, "none"), expected)
    assert error(fit(metric_scale="none", bandwidths=[3.0], ridges=[1e-3])) < 0.2


def test_vanishing_gradients_leave_the_metric_alone() -> None:
    zero = average_gradient_outer_product(torch.zeros(5, 3, dtype=torch.float64))
    assert torch.equal(zero, torch.eye(3, dtype=torch.float64))


def test_constant_labels_are_fitted_by_their_constant() -> None:
    """Held-out labels without a variance are no reason to refuse every pair of bandwidth and ridge."""
    learner = RecursiveFeatureMachine.model_validate({"kind": "recursive_feature_machine", "rounds": 1})
    labels = torch.full((40,), 2.5, dtype=torch.float64)
    fitted = fit_recursive_feature_machine(
        learner, normal(40), labels, torch.Generator().manual_seed(0), lambda *_: None, None
    )
    torch.testing.assert_close(fitted(normal(5, seed=1)), labels[:5])


def test_a_fit_is_asked_within_a_system_whether_it_shall_stop() -> None:
    counts: list[tuple[int, int]] = []
    learner = RecursiveFeatureMachine.model_validate(
        {"kind": "recursive_feature_machine", "rounds": 1, "bandwidths": [5.0], "ridges": [1e-2]}
    )
    x = normal(700)
    fit_recursive_feature_machine(
        learner, x, target(x), torch.Generator().manual_seed(0), lambda *c: counts.append(c), None
    )
    done = [count for count, _ in counts]
    assert done == sorted(done)
    assert done.count(0) > 4, "blocks of the gram and of its factor, before the first system is solved"


def test_gradients_of_points_nearer_than_rounding_are_not_made_of_it() -> None:
    """The kernel tells such points apart; the direction between them is not known to any digit."""
    anchors, weights = normal(6), normal(6, seed=1)[:, 0]
    kernel = LaplaceKernel(2.0)
    near = anchors[:1] + 1e-15
    found = kernel.gradients(near, anchors, weights)
    expected = kernel.gradients(anchors[:1], anchors, weights)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
