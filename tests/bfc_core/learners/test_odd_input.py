"""Odd samples and hyperparameters at their bounds: an answer or a clear outcome, never a traceback or a NaN."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from bfc_core.evaluation import pose
from bfc_core.kernels.shared import EigendecompositionFolder
from bfc_core.packing import estimate_run
from bfc_core.run import execute_pack
from bfc_core.specs import Outcome, Report, RunSpec

RBF = {"kind": "rbf"}
DEEP = {"depth": 20, "activation": "quadratic", "weight_variance": 100}
EXTREMES: dict[str, list[dict[str, object]]] = {
    "linear": [{}, {"ridges": [1e12]}, {"ridges": [1e-300]}],
    "kernel_ridge": [
        {"kernel": RBF},
        {"kernel": {"kind": "rbf", "bandwidths": [1e-12]}},
        {"kernel": {"kind": "rbf", "bandwidths": [1e12]}},
        {"kernel": {"kind": "polynomial", "degree": 16, "inner_product": "sum"}},
        {"kernel": {"kind": "polynomial", "degree": 16, "offset": 0}},
        {"kernel": {"kind": "ntk", **DEEP}},
        {"kernel": RBF, "solver": "nystrom"},
        {"kernel": RBF, "solver": "iterative"},
        {"kernel": RBF, "precision": "mixed"},
        {"kernel": RBF, "criterion": "gcv", "feature_map": "quadratic"},
    ],
    "empirical_ntk": [
        {"width": 1},
        {"width": 8, "depth": 10, "activation": "quadratic"},
        {"width": 8, "depth": 10, "activation": "centred_quadratic", "weight_variance": 100},
    ],
    "random_features": [{"count": 1}, {"count": 200}, {"features": "fourier", "bandwidths": [1e-12, 1e12]}],
    "feature_map_regression": [
        {"basis": basis, "degree": degree, "method": method, **rest}
        for basis, degree in (("monomial", 8), ("hermite", 1))
        for method in ("ridge", "lasso", "lars", "omp")
        for rest in ({}, {"most_terms": 1, "validation_fraction": 0.899})
    ],
    "sequential_kernel": [
        {"kernel": RBF, "stages": 3},
        {"kernel": {"kind": "laplace", "bandwidths": [1e-12]}},
        {"kernel": {"kind": "ntk", **DEEP}},
    ],
    "nearest_neighbours": [{}, {"neighbours": [1000]}, {"validation_fraction": 0.899}],
    "gradient_boosting": [{"most_trees": 2}, {"most_trees": 1, "depths": [20], "validation_fraction": 0.899}],
    "oracle": [{"knows": "features"}, {"knows": "bayes"}, {"knows": "constant"}],
    "one_giant_step": [{"width": 1}, {"width": 50, "step_size": 1000, "activation": "erf"}],
    "staged_spectral": [{"degree": 1}, {"degree": 8}],
    "forward_lofi": [{"filters": 1}, {"layers": 4, "filters": 10}],
    "back_lofi": [{"filters": 1, "validation_fraction": 0.899}, {"layers": 3, "filters": 6}],
    "tensor_decomposition": [{"components": 64, "degree": 1}, {"order": 4, "components": 1, "degree": 8}],
    "sparse_coding": [{"atoms": 1}, {"atoms": 30, "nonzero": 256}],
    "recursive_feature_machine": [
        {"rounds": 2},
        {"rounds": 12, "metric_scale": "none", "bandwidths": [3], "ridges": [1e-3]},
        {"rounds": 2, "bandwidths": [1e-12, 1e12], "ridges": [1e-300, 1e12], "validation_fraction": 0.899},
    ],
    "quadratic_network": [{"steps_per_phase": 2}, {"steps_per_phase": 30, "step_size": 10, "init_scale": 10}],
}
CLASSES = {
    "kind": "hierarchical_quadratic",
    "widths": [1, 1],
    "alphas": [1, 0.1],
    "task": "classification",
}
PROBLEMS: dict[str, dict[str, object]] = {
    "one dim": {"target": {"kind": "harmonic", "degree": 1}, "dim": 1},
    "degree 8": {"target": {"kind": "harmonic", "degree": 8}, "dim": 1},
    "tiny labels": {"target": {"kind": "staircase", "sets": [[0]], "coefficients": [1e-30]}, "dim": 1},
    "large labels": {"target": {"kind": "staircase", "coefficients": [1e6] * 3}, "dim": 3},
    "noise": {"target": {"kind": "harmonic", "degree": 1, "label_noise": 100}, "dim": 2},
    "two values": {"target": {"kind": "harmonic", "degree": 1}, "inputs": {"kind": "cube"}, "dim": 1},
    "classes": {"target": CLASSES, "dim": 2},
    "fewer samples than dim": {"target": {"kind": "multi_index", "degrees": [1, 2]}, "dim": 20},
    "images": {"target": {"kind": "images"}, "inputs": {"kind": "data_set"}, "dim": 64},
}
ONE_NUMBER = set(EXTREMES) - {"linear", "kernel_ridge", "empirical_ntk", "random_features"}


def spec(kind: str, problem: dict[str, object] | None = None, /, **changes: object) -> RunSpec:
    """One run on eight samples; ``changes`` are of the learner, but for n, seed, dim and test_samples."""
    own: dict[str, object] = {"n": 8, "seed": 1, "test_samples": 16}
    own |= {name: changes.pop(name) for name in (*own, "dim") if name in changes}
    body = {"target": {"kind": "staircase"}, "dim": 3, "n": own["n"], "seed": own["seed"]}
    body |= problem or {}
    body |= {"dim": own["dim"]} if "dim" in own else {}
    return RunSpec.model_validate(
        body | {"learner": {"kind": kind, **changes}, "budget": {"test_samples": own["test_samples"]}}
    )


def is_sound(report: Report) -> bool:
    """JSON without NaN, and an outcome that says what there is to say."""
    json.loads(report.model_dump_json(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    if report.outcome is Outcome.SUCCEEDED:
        return report.metrics is not None and report.metrics.nmse is not None
    return report.outcome is Outcome.DIVERGED and bool(report.message)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.filterwarnings("error")
def test_a_learner_at_its_bounds_answers_on_odd_samples(kind: str, problem: str) -> None:
    if problem == "images" and kind in ONE_NUMBER:
        pytest.skip("refused: it learns one number")
    for changes in EXTREMES[kind]:
        run = spec(kind, PROBLEMS[problem], **changes)
        if estimate_run(run).memory_bytes < 2**29:
            (report,) = execute_pack([run])
            assert is_sound(report), (changes, report)


@cache
def seed_of_equal_labels() -> int:
    """Of eight samples of a classification all have the same label once in about a hundred seeds."""
    runs = (spec("linear", PROBLEMS["classes"], seed=seed) for seed in range(2000))
    return next(run.seed for run in runs if float(pose(run).y.std()) == 0)


@pytest.mark.parametrize("kind", sorted(set(EXTREMES) - {"quadratic_network", "oracle"}))
def test_equal_labels_are_predicted_as_they_are(kind: str) -> None:
    run = spec(kind, PROBLEMS["classes"], seed=seed_of_equal_labels(), test_samples=100, **EXTREMES[kind][0])
    problem = pose(run)
    (report,) = execute_pack([run])
    assert report.outcome is Outcome.SUCCEEDED
    share = float((problem.test_y == problem.y[0]).double().mean())
    assert report.metrics is not None
    assert report.metrics.accuracy == pytest.approx(share)


@pytest.mark.parametrize("method", ["lasso", "lars", "omp"])
def test_a_sparse_path_of_equal_labels_is_their_mean(method: str) -> None:
    run = spec("feature_map_regression", PROBLEMS["classes"], seed=seed_of_equal_labels(), method=method)
    (report,) = execute_pack([run])
    assert report.outcome is Outcome.SUCCEEDED
    assert report.selection["terms"] == 0


def test_held_out_labels_that_are_equal_judge_a_feature_machine() -> None:
    """At n = 8 two labels are held out: of two classes they are equal every other time."""
    for seed in range(12):
        run = spec("recursive_feature_machine", PROBLEMS["classes"], seed=seed, rounds=1)
        (report,) = execute_pack([run])
        assert report.outcome is Outcome.SUCCEEDED, report


def test_a_dead_feature_leaves_the_mean() -> None:
    """One ReLU neuron that no sample reaches: its gram is zero, and so is what it can add."""
    for seed in range(40):
        run = spec("random_features", PROBLEMS["one dim"], seed=seed, count=1)
        (report,) = execute_pack([run])
        assert report.outcome is Outcome.SUCCEEDED, (seed, report)


def test_a_kernel_cache_never_lends_other_features(tmp_path: Path) -> None:
    folder = EigendecompositionFolder(tmp_path, 2**30)
    runs = [
        spec("random_features", n=512, dim=4, count=count, **changes)
        for count in (300, 600)
        for changes in ({}, {"features": "fourier", "bandwidths": [1.0]})
    ]
    for run in runs:
        (alone,) = execute_pack([run])
        (cached,) = execute_pack([run], kernel_cache=folder)
        assert alone.metrics is not None
        assert cached.metrics is not None
        assert cached.metrics.nmse == pytest.approx(alone.metrics.nmse, rel=1e-9)
    assert len(list(tmp_path.glob("*.eigh"))) == len(runs)


@pytest.mark.parametrize("kind", ["forward_lofi", "back_lofi"])
def test_filters_beyond_the_span_of_few_samples_see_nothing(kind: str) -> None:
    """Eight samples under four layers of ten filters, a polynomial of degree 16: many are zero there up to rounding."""
    for seed in range(4):
        (report,) = execute_pack([spec(kind, seed=seed, layers=4, filters=10, test_samples=100)])
        assert report.outcome is Outcome.SUCCEEDED, report


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"kernel": {"kind": "ntk", **DEEP}}, "try fewer layers"),
        ({"kernel": {"kind": "rbf", "bandwidths": [1e12]}, "ridges": [1e-300]}, "larger ridges"),
    ],
)
def test_divergence_is_told_with_advice_that_helps(changes: dict[str, object], advice: str) -> None:
    (report,) = execute_pack([spec("kernel_ridge", **changes)])
    assert report.outcome is Outcome.DIVERGED
    assert advice in str(report.message)
    assert "step_size" not in str(report.message)


@pytest.mark.parametrize(
    ("target", "dim"),
    [
        ({"kind": "harmonic", "degree": 2}, 1),
        ({"kind": "multi_index", "degrees": [4]}, 1),
        ({"kind": "hierarchical_polynomial", "coefficients": [0, 1]}, 2),
        ({"kind": "stacked_quadratic", "widths": [2, 1]}, 2),
        ({"kind": "stacked_quadratic", "widths": [3, 1], "alpha": 0}, 3),
    ],
)
def test_a_target_that_the_cube_makes_constant_is_refused(target: dict[str, object], dim: int) -> None:
    on_cube = {"target": target, "inputs": {"kind": "cube"}, "dim": dim}
    with pytest.raises(ValidationError, match=f"at dim {dim} that leaves {target['kind']} constant"):
        spec("linear", on_cube)
    (report,) = execute_pack([spec("linear", on_cube | {"dim": dim + 1})])
    assert report.outcome is Outcome.SUCCEEDED


def test_a_target_whose_squares_vanish_fails_in_words() -> None:
    vanishing = {"target": {"kind": "staircase", "sets": [[0]], "coefficients": [1e-200]}, "dim": 1}
    plain = spec("linear", {"target": {"kind": "harmonic", "degree": 1}, "dim": 1})
    failed, fine = execute_pack([spec("linear", vanishing), plain])
    assert failed.outcome is Outcome.FAILED
    assert "constant on the 16 test samples" in str(failed.message)
    assert fine.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("kind", sorted(set(EXTREMES) - {"quadratic_network", "one_giant_step"}))
@pytest.mark.parametrize("scale", [2.0**-100, 2.0**19])
def test_predictions_scale_with_the_labels(kind: str, scale: float) -> None:
    """A common factor of all labels changes no error; powers of two leave rounding as it is.

    Gradient steps of a given size are another matter.
    """
    changes = EXTREMES[kind][0] | ({"metric_scale": "trace"} if "machine" in kind else {})

    def nmse(size: float) -> float:
        target = {"kind": "staircase", "coefficients": [size] * 3, "label_noise": 0.1}
        (report,) = execute_pack([spec(kind, {"target": target}, n=60, test_samples=100, **changes)])
        assert report.metrics is not None
        assert report.metrics.nmse is not None
        return report.metrics.nmse

    assert nmse(scale) == pytest.approx(nmse(1.0), rel=1e-6)


@pytest.mark.parametrize("method", ["lasso", "lars", "omp"])
@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e6])
def test_sparse_paths_have_no_units(method: str, scale: float) -> None:
    def terms(size: float) -> tuple[object, float]:
        target = {"kind": "staircase", "coefficients": [size] * 3, "label_noise": 0.1}
        run = spec("feature_map_regression", {"target": target}, n=100, method=method, degree=3)
        (report,) = execute_pack([run])
        assert report.metrics is not None
        assert report.metrics.nmse is not None
        return report.selection["terms"], report.metrics.nmse

    expected = terms(1.0)
    found = terms(scale)
    assert found[0] == expected[0]
    assert found[1] == pytest.approx(expected[1], rel=1e-6)


def test_a_selection_that_is_not_finite_is_left_out() -> None:
    report = Report(
        outcome=Outcome.SUCCEEDED, seconds=0, selection={"a": float("inf"), "b": float("nan"), "c": 1.0}
    )
    assert report.selection == {"c": 1.0}


def test_no_metric_of_equal_test_labels_is_a_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    run = spec("linear", PROBLEMS["classes"], n=60)
    problem = pose(run)
    rows = problem.test_y == 1
    from bfc_core.evaluation import Problem, report_of  # noqa: PLC0415 - beside what it is for
    from bfc_core.learners.baseline import FittedFunction  # noqa: PLC0415
    from bfc_core.learners.kernel_pack import KernelPredictor  # noqa: PLC0415
    from bfc_core.learners.predictor import Fitted  # noqa: PLC0415
    from bfc_core.truth import Truth  # noqa: PLC0415

    truth = Truth(problem.target, problem.test_x[rows], problem.test_y[rows])
    one_class = Problem(truth, problem.x, problem.y)
    ones = FittedFunction(lambda x: torch.ones_like(x[:, 0]))
    report = report_of(Fitted(Outcome.SUCCEEDED, KernelPredictor(ones)), one_class, 0.0)
    assert report.outcome is Outcome.SUCCEEDED
    assert report.metrics is not None
    assert report.metrics.accuracy == 1
    assert report.metrics.nmse is None


def _of(learner: dict[str, object], dim: int, target: dict[str, object]) -> RunSpec:
    rest = {name: value for name, value in learner.items() if name != "kind"}
    return spec(str(learner["kind"]), {"target": target, "dim": dim}, **rest)


WIDE = {"kind": "harmonic"}


@pytest.mark.parametrize(
    "learner",
    [
        {"kind": "forward_lofi"},
        {"kind": "back_lofi"},
        {"kind": "recursive_feature_machine"},
        {"kind": "one_giant_step", "width": 4096},
    ],
    ids=lambda learner: learner["kind"],
)
def test_a_plan_knows_the_decompositions_of_wide_rows(learner: dict[str, object]) -> None:
    """One matrix of 4096 rows is decomposed for 4 to 12 seconds, however few the samples are."""
    wide, narrow = (estimate_run(_of(learner, dim, WIDE)) for dim in (4096, 64))
    assert wide.seconds > 4
    assert wide.seconds > 20 * narrow.seconds
    assert wide.memory_bytes > 4096**2 * 8


def test_a_plan_knows_what_an_oracle_is_told_and_that_rows_of_classes_are_longer() -> None:
    oracle = {"kind": "oracle"}
    many = {"kind": "multi_index", "degrees": [1, 2], "rank": 200}
    runs = [_of(oracle, 400, target).model_copy(update={"n": 2000}) for target in (many, WIDE)]
    assert estimate_run(runs[0]).seconds > 5 * estimate_run(runs[1]).seconds
    map_8 = {"kind": "feature_map_regression", "degree": 8}
    plain = {**CLASSES, "task": "regression"}
    longer, shorter = (estimate_run(_of(map_8, 4, target)).memory_bytes for target in (CLASSES, plain))
    # C(13, 8) − C(12, 8) products more, a thousand rows of them at a time, twice.
    assert longer - shorter >= 8 * 2 * 1000 * (1287 - 495)
