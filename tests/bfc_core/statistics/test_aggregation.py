"""Rows become cells, ratios and gains; nothing is averaged that did not succeed."""

import pytest

from bfc_core.specs import ExperimentSpec, Metrics
from bfc_core.statistics.aggregation import Row, compare, distinct_labels


def experiment(**changes):
    body = {
        "name": "t",
        "target": {"kind": "hierarchical_quadratic"},
        "learners": [
            {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}},
            {"kind": "algorithm_1"},
            {"kind": "layerwise"},
        ],
        "n": 64,
        "dim": 6,
        "seeds": 6,
    }
    return ExperimentSpec.model_validate(body | changes)


NMSE = {
    "kernel_ridge": 0.5,
    "joint": 0.001,
    "algorithm_1": 0.001,
    "layerwise": 0.01,
    "matched_compute_control": 0.02,
}
FEATURES = {
    "algorithm_1": {2: 0.01, 3: 0.1},
    "layerwise": {2: 0.05, 3: 0.2},
    "matched_compute_control": {2: 0.04},
}


def rows_of(spec, status="succeeded"):
    return [
        Row(
            spec=run,
            status=status,
            metrics=Metrics(
                nmse=NMSE[run.learner.kind] * (1 + 0.1 * run.seed),
                feature_error={
                    level: error * (1 + 0.1 * run.seed)
                    for level, error in FEATURES.get(run.learner.kind, {}).items()
                },
            ),
            seconds=1.0,
        )
        for run in spec.runs()
    ]


def test_ratios_are_against_algorithm_1_wherever_it_stands():
    comparison = compare(rows_of(experiment()))
    assert comparison.baseline == "algorithm_1"
    found = {(each.label, each.metric, each.level): each.ratio.median_ratio for each in comparison.ratios}
    assert found == {
        ("kernel_ridge rbf", "nmse", None): pytest.approx(500),
        ("layerwise", "nmse", None): pytest.approx(10),
        ("layerwise", "feature_error", 2): pytest.approx(5),
        ("layerwise", "feature_error", 3): pytest.approx(2),
        ("matched_compute_control", "nmse", None): pytest.approx(20),
        ("matched_compute_control", "feature_error", 2): pytest.approx(4),
    }


def test_six_equal_seeds_reach_the_least_p_value_and_holm_multiplies_it():
    ratios = compare(rows_of(experiment())).ratios
    assert {each.ratio.p_value for each in ratios} == {2 / 64}
    assert [each.p_value_holm for each in ratios] == pytest.approx([6 * 2 / 64] * 6)


def test_the_backward_gain_is_control_over_algorithm_1():
    (gain,) = compare(rows_of(experiment())).backward_gain
    assert (gain.label, gain.against, gain.level) == ("matched_compute_control", "algorithm_1", 2)
    assert gain.ratio.median_ratio == pytest.approx(4)


def test_a_control_is_held_against_the_learner_of_its_own_recipe():
    spec = experiment(
        learners=[
            {"kind": "algorithm_1", "width": 20},
            {"kind": "algorithm_1", "width": 30},
            {"kind": "layerwise", "width": 30},
        ]
    )
    (gain,) = compare(rows_of(spec)).backward_gain
    assert gain.against == "algorithm_1 (width 30)"


def test_learners_with_one_name_get_what_tells_them_apart():
    spec = experiment(
        learners=[
            {"kind": "kernel_ridge", "kernel": {"kind": "rbf", "bandwidths": [1]}},
            {"kind": "kernel_ridge", "kernel": {"kind": "rbf", "bandwidths": [2]}},
            {"kind": "joint"},
        ]
    )
    assert list(distinct_labels(spec.all_learners()).values()) == [
        "kernel_ridge rbf (kernel.bandwidths [1.0])",
        "kernel_ridge rbf (kernel.bandwidths [2.0])",
        "joint",
    ]


def test_grid_points_are_not_mixed():
    spec = experiment(
        n=[32, 64], alphas=[[1, 0.1], [1, 0]], learners=[{"kind": "algorithm_1"}, {"kind": "joint"}]
    )
    comparison = compare(rows_of(spec))
    assert len(comparison.cells) == 8
    assert {cell.seeds for cell in comparison.cells} == {6}
    assert {each.point.alphas for each in comparison.ratios} == {(1, 0.1), (1, 0)}


def test_runs_that_did_not_succeed_are_counted_warned_about_and_left_out():
    spec = experiment(seeds=2, learners=[{"kind": "algorithm_1"}])
    first, second = rows_of(spec)
    diverged = Row(spec=second.spec, status="diverged", metrics=Metrics(nmse=None))
    comparison = compare([first, diverged])
    (cell,) = comparison.cells
    assert (cell.seeds, cell.statuses["diverged"], cell.nmse.seeds) == (2, 1, 1)
    assert any("1 run diverged" in warning for warning in comparison.warnings)


def test_few_seeds_are_warned_about():
    warnings = " ".join(compare(rows_of(experiment(seeds=3))).warnings)
    assert "too few for p-values" in warnings
    assert "not confidence intervals" in warnings


def test_unfinished_runs_are_no_numbers():
    rows = [Row(spec=run, status="queued") for run in experiment().runs()]
    comparison = compare(rows)
    assert all(cell.nmse.median is None for cell in comparison.cells)
    assert any("not finished" in warning for warning in comparison.warnings)
    assert compare([]).baseline is None
