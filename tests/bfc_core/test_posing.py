"""What runs share is drawn once; what each of them reports is what it reports with everything drawn anew."""

import json

import pytest
import torch

from bfc_core import evaluation
from bfc_core.evaluation import Problem, pose
from bfc_core.packing import packs_of
from bfc_core.posing import KEPT_TRUTHS, PosedProblems
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, Report, RunSpec

SHORT = {"width": 8, "batch_size": 32}
NETWORKS = [{"kind": kind} | SHORT for kind in ("algorithm_1", "layerwise", "joint")]
BASELINES: list[dict[str, object]] = [
    {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}},
    {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 4}},
    {"kind": "oracle", "knows": "bayes"},
    {"kind": "oracle", "knows": "features"},
    {"kind": "linear"},
    {"kind": "nearest_neighbours"},
    {"kind": "gradient_boosting"},
    {"kind": "random_features"},
    {"kind": "recursive_feature_machine"},
    {"kind": "staged_spectral"},
    {"kind": "back_lofi"},
    {"kind": "tensor_decomposition"},
]
QUADRATIC = {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3]}


def runs(learners: list[dict[str, object]], **changes: object) -> list[RunSpec]:
    fields: dict[str, object] = {
        "name": "shared",
        "target": QUADRATIC | {"label_noise": 0.1},
        "learners": learners,
        "n": [48, 64],
        "dim": 6,
        "seeds": [3, 8],
        "budget": {"test_samples": 1200, "steps_per_stage": 20},
    }
    return ExperimentSpec.model_validate(fields | changes).runs()


def facts(reports: list[Report]) -> list[object]:
    return [json.loads(report.model_dump_json(exclude={"seconds", "solve_seconds"})) for report in reports]


def bits(problem: Problem) -> list[torch.Tensor]:
    return [problem.x, problem.y, problem.test_x, problem.test_y]


def same(one: Problem, other: Problem) -> bool:
    return all(map(torch.equal, bits(one), bits(other)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target": QUADRATIC | {"task": "classification", "label_noise": 0.1}},
        {"target": {"kind": "staircase"}},
        {"inputs": {"kind": "gaussian_mixture"}},
        {"budget": {"test_samples": 400}},
    ],
    ids=["regression", "classification", "plain target", "mixture", "few test rows"],
)
def test_a_shared_problem_is_the_one_that_a_run_alone_gets(changes: dict[str, object]) -> None:
    posed = PosedProblems()
    for run in runs([{"kind": "linear"}], **changes):
        problem = posed.pose(run)
        assert same(problem, pose(run))
        assert posed.pose(run.model_copy()) is problem
        assert len(problem.x) == run.n


def test_sizes_of_one_seed_share_a_target_and_its_test_rows() -> None:
    first, other_seed, larger, _ = runs([{"kind": "linear"}])
    posed = PosedProblems()
    assert posed.pose(first).truth is posed.pose(larger).truth
    assert posed.pose(first).truth is not posed.pose(other_seed).truth


@pytest.mark.parametrize("learners", [NETWORKS, BASELINES], ids=["networks", "baselines"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_reports_are_the_same_to_the_last_bit_and_no_learner_changes_what_is_shared(
    learners: list[dict[str, object]], task: str
) -> None:
    if task == "classification":
        learners = [
            each for each in learners if each["kind"] in {"algorithm_1", "joint", "linear", "oracle"}
        ][:3]
    sizes = {"n": [48, 64]} if learners[0] is NETWORKS[0] else {"n": 48, "seeds": [3]}
    grid = runs(learners, target=QUADRATIC | {"task": task, "label_noise": 0.05}, **sizes)
    shared = PosedProblems()
    for pack in packs_of(grid):
        assert facts(execute_pack(pack, posed=shared)) == facts(execute_pack(pack, posed=PosedProblems(0)))
    for run in grid:
        assert same(shared.pose(run), pose(run))


def test_a_grid_draws_each_target_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, int]] = []
    build = evaluation.build_target

    def counted(spec, inputs, dim, seed):
        drawn.append((dim, seed))
        return build(spec, inputs, dim, seed)

    monkeypatch.setattr(evaluation, "build_target", counted)
    grid = runs([*NETWORKS, *BASELINES[:4]], n=[32, 48, 64], dim=[6, 7])
    posed = PosedProblems()
    for pack in packs_of(grid):
        execute_pack(pack, posed=posed)
    assert sorted(drawn) == sorted({(run.dim, run.seed) for run in grid})


def test_what_is_kept_has_a_limit() -> None:
    posed = PosedProblems(limit_bytes=400_000)
    for run in runs([{"kind": "linear"}], n=[1000, 2000, 3000], seeds=20):
        assert same(posed.pose(run), pose(run))
        assert posed.kept_bytes() <= 400_000
    nothing = PosedProblems(0)
    run = runs([{"kind": "linear"}])[0]
    assert nothing.pose(run) is not nothing.pose(run)
    assert nothing.kept_bytes() == 0
    many = PosedProblems()
    grid = runs([{"kind": "linear"}], n=16, seeds=3 * KEPT_TRUTHS, budget={"test_samples": 16})
    problems = [many.pose(run) for run in grid]
    assert many.kept_bytes() < 2 * KEPT_TRUTHS * sum(part.nbytes for part in bits(problems[0]))


def test_what_a_report_needs_of_the_truth_counts_as_kept() -> None:
    posed = PosedProblems()
    run = runs([{"kind": "oracle", "knows": "features"}])[0]
    problem = posed.pose(run)
    before = posed.kept_bytes()
    assert before == sum(part.nbytes for part in bits(problem))
    execute_pack([run], posed=posed)
    assert posed.kept_bytes() > before
