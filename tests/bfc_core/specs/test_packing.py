"""Packs: every run once, arms of a seed together, sizes bounded."""

import pytest

from bfc_core.packing import estimate_pack, estimate_run, packs_of
from bfc_core.specs import ExperimentSpec


def grid(**changes: object) -> ExperimentSpec:
    fields = {
        "name": "grid",
        "target": {"kind": "hierarchical_quadratic"},
        "learners": [{"kind": "algorithm_1"}, {"kind": "layerwise"}, {"kind": "joint"}],
        "n": [64, 128],
        "dim": [6, 8],
        "seeds": 5,
    }
    return ExperimentSpec.model_validate(fields | changes)


def test_every_run_is_in_exactly_one_pack() -> None:
    runs = grid().runs()
    packs = packs_of(runs)
    assert sorted(map(id, runs)) == sorted(id(run) for pack in packs for run in pack)
    assert max(map(len, packs)) <= 16


def test_the_arms_of_one_seed_share_a_pack() -> None:
    packs = packs_of(grid().runs())
    for pack in packs:
        kinds: dict[tuple[int, int], set[str]] = {}
        for run in pack:
            kinds.setdefault((run.n, run.seed), set()).add(run.learner.kind)
        assert set(map(frozenset, kinds.values())) <= {
            frozenset({"algorithm_1", "layerwise", "matched_compute_control"}),
            frozenset({"joint"}),
        }


def test_shapes_that_differ_never_share_a_pack() -> None:
    for pack in packs_of(grid().runs()):
        assert len({run.dim for run in pack}) == 1


def test_a_kernels_memory_grows_with_the_square_of_n() -> None:
    learners = [{"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}]
    small, large = (estimate_run(grid(learners=learners, n=n, dim=6).runs()[0]) for n in (10_000, 100_000))
    assert 80 < large.memory_bytes / small.memory_bytes < 120
    assert large.seconds > 500 * small.seconds


def test_a_packs_seconds_are_those_of_its_runs() -> None:
    runs = grid(n=64, dim=6).runs()[:5]
    assert estimate_pack(runs).seconds == sum(estimate_run(run).seconds for run in runs)


@pytest.mark.parametrize(
    ("widths", "dim", "width", "members"),
    [((3, 2), 20, 40, 16), ((20, 20), 30, 40, 4), ((32, 32), 128, 256, 1)],
    ids=["small arrays fill a pack", "larger ones part of it", "wide layers train alone"],
)
def test_a_pack_is_as_large_as_the_cache_allows(widths, dim, width, members) -> None:
    spec = grid(
        target={"kind": "hierarchical_quadratic", "widths": widths, "alphas": [1, 0.1]},
        learners=[{"kind": "joint", "width": width}],
        dim=dim,
        n=64,
        seeds=32,
    )
    assert {len(pack) for pack in packs_of(spec.runs())} == {members, 32 % members or members}


def test_the_size_of_packs_can_be_limited_down_to_one() -> None:
    learners = [{"kind": "algorithm_1"}, {"kind": "layerwise"}, {"kind": "oracle"}, {"kind": "linear"}]
    runs = grid(learners=learners).runs()
    assert [len(pack) for pack in packs_of(runs, 1)] == [1] * len(runs)
    of_kernels = [pack for pack in packs_of(runs, 3) if pack[0].learner.kind in {"oracle", "linear"}]
    assert max(map(len, of_kernels)) == 3
    assert sum(map(len, of_kernels)) == sum(run.learner.kind in {"oracle", "linear"} for run in runs)
