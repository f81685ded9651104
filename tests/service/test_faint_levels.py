"""Levels that are too faint to be learnt are told of before anything is trained, and in the report."""

from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec
from tests.service.conftest import SMALL, Api

TARGET = SMALL["target"]


def warned(api: Api, **changes: object) -> list[str]:
    answer = api.post(SMALL | changes, params={"dry_run": True})
    assert answer.status_code == 200, answer.text
    return [warning for warning in answer.json()["warnings"] if warning.startswith("level ")]


def test_nothing_is_said_of_levels_that_can_be_learnt(api: Api) -> None:
    assert warned(api) == []
    assert warned(api, target=TARGET | {"label_noise": 0.05}, n=2000) == []


def test_alphas_that_the_penalty_outweighs_are_told_of_with_a_way_out(api: Api) -> None:
    (second,) = warned(api, target=TARGET | {"alphas": [1e-6, 1e-7]})
    assert second.startswith("level 2 (alpha 1e-06) is outweighed by the penalty on the norms")
    assert "multiply all alphas by one factor" in second
    lighter = {"norm_weight": 0, "wide_norm_weight": 0}
    learners = [{"kind": "joint"} | lighter]
    assert warned(api, target=TARGET | {"alphas": [1e-6, 1e-7]}, learners=learners) == []


def test_a_level_with_next_to_no_share_is_told_of(api: Api) -> None:
    (warning,) = warned(api, target=TARGET | {"alphas": [1, 1e-6]})
    assert warning.startswith("level 3 (alpha 1e-06) adds about 5e-07 of the labels, too little")
    assert warned(api, target=TARGET | {"alphas": [1, 1e-4]}) == []


def test_a_level_below_the_noise_is_told_of_where_the_samples_are_few(api: Api) -> None:
    target = TARGET | {"alphas": [1, 0.03], "label_noise": 0.5}
    (warning,) = warned(api, target=target)
    assert warning.startswith("level 3 (alpha 0.03) adds about 1e-02 of the labels")
    assert "less than 64 samples can tell from label noise of 0.5" in warning
    assert warned(api, target=target, n=200_000, learners=[{"kind": "joint"}]) == []


def test_one_sentence_stands_for_a_grid(api: Api) -> None:
    found = warned(api, alphas=[[1, 0.1], [1, 1e-9], [1, 1e-10]], dim=[6, 7], seeds=4)
    (warning,) = found
    assert "alpha 1e-09" in warning


def test_what_is_faint_on_purpose_is_not_told_of(api: Api) -> None:
    assert warned(api, target=TARGET | {"alphas": [1, 0]}) == []
    assert warned(api, target=TARGET | {"alphas": [1, 1e-9], "null_twin": "random_polynomial"}) == []


def test_learners_without_levels_hear_nothing_of_them(api: Api) -> None:
    learners = [{"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}]
    assert warned(api, target=TARGET | {"alphas": [1e-6, 1e-7]}, learners=learners) == []


def test_the_report_of_a_run_says_it_too() -> None:
    spec = ExperimentSpec.model_validate(
        SMALL | {"target": TARGET | {"alphas": [1e-6, 1e-7]}, "learners": [{"kind": "joint"}], "seeds": 1}
    )
    (report,) = execute_pack(spec.runs())
    assert [warning[:7] for warning in report.warnings] == ["level 2"]
