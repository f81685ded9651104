"""Learners without levels beside other libraries and plain formulas, and what no answer may depend on."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch

from bfc_core import evaluation
from bfc_core.kernels.shared import SharedGrams
from bfc_core.learners.baseline import FitContext
from bfc_core.learners.baselines import fit_baseline
from bfc_core.learners.kernel_ridge import fit_kernel_ridge
from bfc_core.learners.recursive_feature_machine import fit_recursive_feature_machine
from bfc_core.learners.spectral_baselines import moment_components
from bfc_core.posing import PosedProblems
from bfc_core.run import execute_pack
from bfc_core.specs import Outcome, RunSpec, WorkedExample1
from bfc_core.targets.worked_examples import build_worked_example_1
from bfc_core.truth import Truth
from tests.bfc_core.learners.test_odd_input import EXTREMES, PROBLEMS, spec

DIM = 5
FRESH = 50


def normal(rows: int, columns: int = DIM, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def labels(x: torch.Tensor, noise: float = 0.3, seed: int = 9) -> torch.Tensor:
    return (
        2
        + x[:, 0]
        - 0.5 * x[:, 1] * x[:, 2]
        + 0.3 * x[:, 3] ** 2
        + noise * normal(len(x), 1, seed=seed)[:, 0]
    )


def context(seed: int = 3) -> FitContext:
    return FitContext(seed, lambda *_: None, SharedGrams())


def fit(kind: str, x: torch.Tensor, y: torch.Tensor, /, **changes: object):
    # Only the oracle looks at it.
    target = build_worked_example_1(WorkedExample1(kind="worked_example_1"), max(3, x.shape[1]))
    learner = spec(kind, n=len(x), **changes).learner
    if learner.kind == "kernel_ridge":
        return fit_kernel_ridge(learner, x, y, lambda *_: None, None)
    if learner.kind == "recursive_feature_machine":
        generator = torch.Generator().manual_seed(0)
        return fit_recursive_feature_machine(learner, x, y, generator, lambda *_: None, None)
    return fit_baseline(learner, x, y, target, context())


# --- closed forms and other libraries --------------------------------------------------------------------


def test_linear_without_shrinkage_is_least_squares_with_an_intercept() -> None:
    x, fresh = normal(60), normal(FRESH, seed=1)
    y = labels(x)
    with_one = np.c_[x.numpy(), np.ones(len(x))]
    solved, *_ = np.linalg.lstsq(with_one, y.numpy(), rcond=None)
    expected = np.c_[fresh.numpy(), np.ones(FRESH)] @ solved
    np.testing.assert_allclose(fit("linear", x, y, ridges=[1e-12])(fresh).numpy(), expected, rtol=1e-8)


@pytest.mark.parametrize(("kind", "degree"), [("linear", 1), ("feature_map_regression", 2)])
def test_the_ridge_is_the_one_that_leaving_out_every_sample_chooses(kind: str, degree: int) -> None:
    """Every sample left out in turn, the normal equations solved anew: monomials of another library."""
    from sklearn.preprocessing import PolynomialFeatures  # noqa: PLC0415 - heavy, and of this test alone

    x, fresh = normal(40), normal(FRESH, seed=1)
    y = labels(x).numpy()
    features = PolynomialFeatures(degree, include_bias=False)
    phi = features.fit_transform(x.numpy())
    constant = sqrt(10 * (phi**2).sum() / len(x))
    phi = np.c_[phi, np.full(len(x), constant)]
    grid = [1e-6, 1e-4, 1e-2, 1.0]
    scale = (phi**2).sum() / len(x)

    def weights(rows: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
        square = phi[rows].T @ phi[rows] + ridge * scale * np.eye(phi.shape[1])
        mean = y[rows].mean()
        return np.linalg.solve(square, phi[rows].T @ (y[rows] - mean)), mean

    errors = {}
    for ridge in grid:
        left_out = []
        for one in range(len(x)):
            solved, mean = weights(np.delete(np.arange(len(x)), one), ridge)
            left_out.append((phi[one] @ solved + mean - y[one]) ** 2)
        errors[ridge] = float(np.mean(left_out))
    best = min(errors, key=errors.__getitem__)
    changes = {} if kind == "linear" else {"basis": "monomial", "degree": degree}
    fitted = fit(kind, x, torch.from_numpy(y), ridges=grid, **changes)
    assert fitted.selection["loo_mse"] == pytest.approx(errors[best], rel=1e-6)
    assert fitted.selection["relative_ridge"] == pytest.approx(best, rel=1e-9)
    solved, mean = weights(np.arange(len(x)), best)
    unseen = np.c_[features.transform(fresh.numpy()), np.full(FRESH, constant)]
    np.testing.assert_allclose(fitted(fresh).numpy(), unseen @ solved + mean, rtol=1e-7)


def standardised(x: torch.Tensor, fresh: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler  # noqa: PLC0415

    features, scaler = PolynomialFeatures(2, include_bias=False), StandardScaler()
    seen = scaler.fit_transform(features.fit_transform(x.numpy()))
    return seen, scaler.transform(features.transform(fresh.numpy()))


def test_matching_pursuit_is_that_of_the_other_library() -> None:
    from sklearn.linear_model import OrthogonalMatchingPursuit  # noqa: PLC0415

    x, fresh = normal(80), normal(FRESH, seed=1)
    y = labels(x)
    fitted = fit("feature_map_regression", x, y, basis="monomial", degree=2, method="omp")
    seen, unseen = standardised(x, fresh)
    other = OrthogonalMatchingPursuit(n_nonzero_coefs=fitted.selection["terms"]).fit(seen, y.numpy())
    np.testing.assert_allclose(fitted(fresh).numpy(), other.predict(unseen), rtol=1e-8)


def test_lasso_is_coordinate_descent_at_the_same_penalty() -> None:
    """The penalty of a step of the path is its largest correlation with the residual."""
    from sklearn.linear_model import Lasso  # noqa: PLC0415

    x, fresh = normal(80), normal(FRESH, seed=1)
    y = labels(x)
    fitted = fit("feature_map_regression", x, y, basis="monomial", degree=2, method="lasso")
    assert fitted.selection["terms"] > 2
    seen, unseen = standardised(x, fresh)
    residual = (y - fitted(x)).numpy()
    penalty = np.abs(seen.T @ residual).max() / len(x)
    other = Lasso(alpha=penalty, tol=1e-12, max_iter=1_000_000).fit(seen, y.numpy())
    np.testing.assert_allclose(fitted(fresh).numpy(), other.predict(unseen), rtol=1e-6)


def test_least_angles_end_at_least_squares_and_are_equal_on_the_way() -> None:
    """All terms that are in correlate equally with the residual, and no other one more (Efron and others, §2)."""
    x = normal(80)
    y = labels(x)
    fitted = fit("feature_map_regression", x, y, basis="monomial", degree=2, method="lars", most_terms=4)
    seen, _ = standardised(x, x)
    correlations = np.abs(seen.T @ (y - fitted(x)).numpy())
    largest = np.sort(correlations)[::-1]
    terms = fitted.selection["terms"]
    np.testing.assert_allclose(largest[: terms + 1], largest[0], rtol=1e-6)
    full = fit("feature_map_regression", x, 1e3 * x[:, 0] + 5, basis="monomial", degree=1, method="lars")
    torch.testing.assert_close(full(x), 1e3 * x[:, 0] + 5, rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize("count", [1, 4, 60])
def test_neighbours_are_those_of_the_other_library(count: int) -> None:
    from sklearn.neighbors import KNeighborsRegressor  # noqa: PLC0415

    x, fresh = normal(60), normal(FRESH, seed=1)
    y = labels(x)
    other = KNeighborsRegressor(count, weights="distance", algorithm="brute").fit(x.numpy(), y.numpy())
    # On its own training samples the held-out choice has one value only where n allows it.
    fitted = fit("nearest_neighbours", x, y, neighbours=[min(count, 48)])
    if count <= 48:
        np.testing.assert_allclose(fitted(fresh).numpy(), other.predict(fresh.numpy()), rtol=1e-9)
    torch.testing.assert_close(fitted(x), y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", ["none", "trace"])
def test_a_feature_machine_of_several_rounds_is_the_papers_loop(scale: str) -> None:
    """The loop of arXiv:2212.13881 in plain numpy: solve, average the outer products of gradients, again."""
    x, fresh = normal(120), normal(FRESH, seed=1)
    y = torch.sin(x[:, 0] + x[:, 1]) + 1
    fitted = fit(
        "recursive_feature_machine",
        x,
        y,
        rounds=4,
        bandwidths=[3.0],
        ridges=[1e-2],
        metric_scale=scale,
    )
    rounds = fitted.selection["rounds"]
    assert rounds >= 2
    points, target = x.numpy(), y.numpy() - y.numpy().mean()

    def distances(a: np.ndarray, b: np.ndarray, metric: np.ndarray) -> np.ndarray:
        difference = a[:, None, :] - b[None, :, :]
        return np.sqrt(np.maximum(np.einsum("ijk,kl,ijl->ij", difference, metric, difference), 0))

    metric = np.eye(DIM)
    for done in range(rounds + 1):
        apart = distances(points, points, metric)
        weights = np.linalg.solve(np.exp(-apart / 3.0) + 1e-2 * np.eye(len(points)), target)
        if done == rounds:
            break
        gradients = np.zeros_like(points)
        for j in range(len(points)):
            for i in range(len(points)):
                if i != j:
                    slope = -np.exp(-apart[j, i] / 3.0) / (3.0 * apart[j, i])
                    gradients[j] += weights[i] * slope * (metric @ (points[j] - points[i]))
        metric = sum(np.outer(g, g) for g in gradients) / len(points)
        if scale == "trace":
            metric = metric * DIM / np.trace(metric)
    expected = np.exp(-distances(fresh.numpy(), points, metric) / 3.0) @ weights + y.numpy().mean()
    np.testing.assert_allclose(fitted(fresh).numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("order", [3, 4])
def test_moment_components_are_those_of_the_tensor_written_out(order: int) -> None:
    """The whole tensor of a small dimension: its directions are fixed points, deflated one after another."""
    x = normal(300, 4)
    y = labels(torch.cat([x, x[:, :1]], 1)) + x[:, 0] ** 3
    directions, values = moment_components(x, y, order, 2, torch.Generator().manual_seed(0))
    centred = (y - y.mean()).numpy() / len(x)
    points, one = x.numpy(), np.eye(4)
    if order == 3:
        tensor = np.einsum("n,ni,nj,nk->ijk", centred, points, points, points)
        first = np.einsum("n,ni->i", centred, points)
        for term in ("i,jk->ijk", "j,ik->ijk", "k,ij->ijk"):
            tensor -= np.einsum(term, first, one)
    else:
        tensor = np.einsum("n,ni,nj,nk,nl->ijkl", centred, points, points, points, points)
        second = np.einsum("n,ni,nj->ij", centred, points, points)
        for term in (
            "ij,kl->ijkl", "ik,jl->ijkl", "il,jk->ijkl", "jk,il->ijkl", "jl,ik->ijkl", "kl,ij->ijkl",
        ):  # fmt: skip
            tensor -= np.einsum(term, second, one)
    for position in range(2):
        u, value = directions[:, position].numpy(), float(values[position])
        image = tensor
        for _ in range(order - 1):
            image = image @ u
        # So far sixty steps come where the eigenvalues of an even tensor lie close together.
        assert np.linalg.norm(image - value * u) < 1e-2 * abs(value)
        outer = u
        for _ in range(order - 1):
            outer = np.multiply.outer(outer, u)
        tensor = tensor - value * outer
    tried = np.random.default_rng(0).normal(size=(4, 2000))
    tried /= np.linalg.norm(tried, axis=0)
    # No direction of the first tensor shows more than the first that was found.
    whole = tensor + float(values[0]) * _power(directions[:, 0].numpy(), order)
    whole = whole + float(values[1]) * _power(directions[:, 1].numpy(), order)
    assert abs(float(values[0])) > 0.999 * max(abs(_along(whole, u)) for u in tried.T)


def _power(u: np.ndarray, order: int) -> np.ndarray:
    outer = u
    for _ in range(order - 1):
        outer = np.multiply.outer(outer, u)
    return outer


def _along(tensor: np.ndarray, u: np.ndarray) -> float:
    while tensor.ndim:
        tensor = tensor @ u
    return float(tensor)


def test_a_planted_orthogonal_tensor_is_decomposed() -> None:
    rotation, _ = torch.linalg.qr(normal(8, 8, seed=4))
    x = normal(40_000, 8)
    along = x @ rotation[:, :3]
    y = ((along**3 - 3 * along) * torch.tensor([1.0, 0.8, 0.6], dtype=torch.float64)).sum(1)
    directions, _ = moment_components(x, y, 3, 3, torch.Generator().manual_seed(0))
    cosines = (rotation[:, :3].mT @ directions).abs()
    assert float(cosines.diagonal().min()) > 0.97


def test_sparse_codes_find_a_planted_dictionary() -> None:
    """Labels that are squares of single codes: nothing for a linear learner, all for the right dictionary."""
    generator = torch.Generator().manual_seed(0)
    dictionary, _ = torch.linalg.qr(normal(12, 12, seed=4))

    def drawn(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        codes = torch.randn(rows, 12, generator=generator, dtype=torch.float64)
        codes *= torch.rand(rows, 12, generator=generator) < 0.12
        return codes @ dictionary, (codes[:, :4] ** 2).sum(1)

    (x, y), (fresh, truth) = drawn(1000), drawn(500)

    def error(kind: str, **changes: object) -> float:
        return float((fit(kind, x, y, **changes)(fresh) - truth).square().mean() / truth.var())

    assert error("linear") > 0.9
    assert error("sparse_coding", atoms=12, nonzero=4) < 0.6


def test_staged_spectral_finds_a_planted_form() -> None:
    """Its first stage is a quadratic form; where p² has none but ‖x‖² of its own, it is p up to sign and scale."""
    x, fresh = normal(1500, 6), normal(500, 6, seed=1)

    def p(rows: torch.Tensor) -> torch.Tensor:
        return (rows[:, :3].square().sum(1) - rows[:, 3:].square().sum(1)) / sqrt(12)

    fitted = fit("staged_spectral", x, p(x) + 0.4 * (p(x) ** 2 - 1) / sqrt(2), degree=4)
    assert fitted.level_features is not None
    found = fitted.level_features(fresh)[1][:, 0]
    pair = torch.stack([found, p(fresh)])
    assert abs(float(torch.corrcoef(pair)[0, 1])) > 0.9


# --- what no answer may depend on ------------------------------------------------------------------------

KERNELS = [
    {"kind": "rbf", "bandwidths": [1.0]},
    {"kind": "laplace", "bandwidths": [3.0]},
    {"kind": "polynomial", "degree": 3},
    {"kind": "arc_cosine", "order": 1},
    {"kind": "ntk", "depth": 3},
    {"kind": "nngp", "depth": 2, "activation": "erf"},
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel["kind"])
@pytest.mark.parametrize("kind", ["kernel_ridge", "sequential_kernel"])
def test_kernels_of_inner_products_do_not_know_the_axes(kind: str, kernel: dict[str, object]) -> None:
    x, fresh = normal(50), normal(FRESH, seed=1)
    rotation, _ = torch.linalg.qr(normal(DIM, seed=4))
    straight = fit(kind, x, labels(x), kernel=kernel)(fresh)
    turned = fit(kind, x @ rotation, labels(x), kernel=kernel)(fresh @ rotation)
    torch.testing.assert_close(turned, straight, rtol=1e-7, atol=1e-7)


def test_a_feature_machine_turns_with_the_axes() -> None:
    x, fresh = normal(50), normal(FRESH, seed=1)
    rotation, _ = torch.linalg.qr(normal(DIM, seed=4))
    straight = fit("recursive_feature_machine", x, labels(x), rounds=2)(fresh)
    turned = fit("recursive_feature_machine", x @ rotation, labels(x), rounds=2)(fresh @ rotation)
    torch.testing.assert_close(turned, straight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("linear", {}),
        ("feature_map_regression", {"degree": 3}),
        ("kernel_ridge", {"kernel": {"kind": "rbf"}}),
        ("sequential_kernel", {"kernel": {"kind": "rbf"}, "stages": 2}),
        ("random_features", {"count": 40}),
        ("empirical_ntk", {"width": 20}),
        ("forward_lofi", {"filters": 3}),
        ("oracle", {"knows": "features"}),
    ],
)
def test_the_order_of_samples_does_not_matter_where_none_are_held_out(
    kind: str, changes: dict[str, object]
) -> None:
    x, fresh = normal(60), normal(FRESH, seed=1)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    straight = fit(kind, x, labels(x), **changes)(fresh)
    torch.testing.assert_close(
        fit(kind, x[order], labels(x)[order], **changes)(fresh), straight, rtol=1e-6, atol=1e-7
    )


def test_a_pack_changes_no_answer() -> None:
    """Every kind in one pack, some with shared grams, as alone."""
    runs = [
        spec(kind, n=60, test_samples=100, **changes)
        for kind, options in EXTREMES.items()
        for changes in options[:2]
    ]
    runs += [spec("kernel_ridge", n=40, test_samples=100, kernel={"kind": "rbf"})]
    for run, together in zip(runs, execute_pack(runs), strict=True):
        (alone,) = execute_pack([run])
        assert together.outcome is alone.outcome
        assert together.flops == alone.flops
        if alone.metrics is not None:
            assert together.metrics is not None
            assert together.metrics.nmse == pytest.approx(alone.metrics.nmse, rel=1e-9)
        assert together.selection.keys() == alone.selection.keys()
        for name, chosen in alone.selection.items():
            same = chosen if isinstance(chosen, str) else pytest.approx(chosen, rel=1e-9)
            assert together.selection[name] == same


class PoisonedTests(PosedProblems):
    """The same samples, and test labels that have nothing to do with them."""

    def pose(self, spec: RunSpec) -> evaluation.Problem:
        problem = super().pose(spec)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(problem.test_y.shape, generator=generator, dtype=torch.float64)
        return replace(problem, truth=Truth(problem.target, problem.test_x, 1e3 * noise))


@pytest.mark.parametrize("kind", EXTREMES)
def test_tuning_never_looks_at_the_test_samples(kind: str) -> None:
    run = spec(kind, n=60, test_samples=100, **EXTREMES[kind][0])
    (honest,) = execute_pack([run])

    (report,) = execute_pack([run], posed=PoisonedTests())
    assert report.selection == honest.selection
    assert report.metrics is not None
    assert honest.metrics is not None
    assert report.metrics.level_coefficient == honest.metrics.level_coefficient


@pytest.mark.parametrize("kind", sorted(set(EXTREMES) - {"oracle", "quadratic_network"}))
def test_what_was_tuned_says_how_many_candidates_it_tried(kind: str) -> None:
    (report,) = execute_pack([spec(kind, n=60, **EXTREMES[kind][0])])
    assert report.outcome is Outcome.SUCCEEDED
    assert report.selection["candidates_tried"] >= 1
    assert report.flops is not None
    assert report.flops > 0


@pytest.mark.parametrize("problem", sorted(set(PROBLEMS) - {"images"}))
def test_doubling_the_samples_leaves_kernel_ridge_where_it_was(problem: str) -> None:
    """Every row twice under twice the ridge is the same fit: duplicates are no trouble."""
    body = PROBLEMS[problem]
    posed = evaluation.pose(spec("linear", body, n=30))
    kernel = {"kind": "rbf", "bandwidths": [1.0]}
    single = fit("kernel_ridge", posed.x, posed.y, kernel=kernel, ridges=[1e-2])
    double = fit("kernel_ridge", posed.x.repeat(2, 1), posed.y.repeat(2), kernel=kernel, ridges=[2e-2])
    size = float(posed.y.abs().max())
    torch.testing.assert_close(double(posed.test_x) / size, single(posed.test_x) / size, rtol=1e-7, atol=1e-8)
