"""Packs: every run once, arms of a seed together, sizes bounded."""

import itertools

import pytest

from bfc_core.network_cost import (
    MAX_MEMBERS,
    begun_bytes,
    fastest_members,
    sample_bytes,
    step_bytes,
    stepped_bytes,
)
from bfc_core.packing import (
    MAX_SHORT_MEMBERS,
    SHORT_PACK_BYTES,
    SHORT_PACK_SECONDS,
    estimate_pack,
    estimate_run,
    packs_of,
)
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


def test_short_networks_share_a_pack_up_to_an_estimate() -> None:
    """Long ones too, but no more of them than are stepped together."""
    learners = [{"kind": "algorithm_1"}, {"kind": "layerwise"}]
    for steps in (1, 20, 200, 5000):
        budget = {"steps_per_stage": steps, "test_samples": 100}
        packs = packs_of(grid(learners=learners, n=[64, 512], dim=10, seeds=60, budget=budget).runs())
        for pack in packs:
            assert estimate_pack(pack).seconds <= SHORT_PACK_SECONDS or len(pack) <= MAX_MEMBERS
            # Nor could the next arms of a seed be in it.
            more = estimate_pack([*pack, *packs[-1][-3:]]).seconds > SHORT_PACK_SECONDS
            assert pack is packs[-1] or len(pack) + 3 > (MAX_MEMBERS if more else MAX_SHORT_MEMBERS)
        assert (len(packs[0]) > MAX_MEMBERS) == (steps <= 200)


def test_a_pack_grows_no_larger_than_a_share_of_memory() -> None:
    """Rows of many numbers, then networks of many parameters."""
    for changes in (
        {"n": 100_000, "dim": 50},
        {"n": 64, "dim": 200, "learners": [{"kind": "joint", "width": 1000}]},
    ):
        budget = {"steps_per_stage": 1, "test_samples": 100}
        fields = {"learners": [{"kind": "joint"}], "budget": budget, "seeds": 128} | changes
        packs = packs_of(grid(**fields).runs())
        assert len(packs) > 3
        for pack in packs:
            stepped = fastest_members(pack[0], pack[0].learner) * stepped_bytes(pack[0], pack[0].learner)
            most = SHORT_PACK_BYTES + stepped + begun_bytes(pack[0])
            assert estimate_pack(pack).memory_bytes < most or len(pack) <= MAX_MEMBERS


def test_networks_keep_company_within_the_memory_of_their_process() -> None:
    """Long networks on a CPU and any on a GPU; arms of a seed part before the limit does."""
    fields = {"n": 100_000, "dim": 50, "seeds": 8, "budget": {"steps_per_stage": 5000}}
    runs = grid(learners=[{"kind": "algorithm_1"}, {"kind": "layerwise"}], **fields).runs()
    one = max(estimate_run(run).memory_bytes for run in runs)
    for gpu_memory_bytes in (None, 2**40):
        unlimited = packs_of(runs, gpu_memory_bytes=gpu_memory_bytes)
        assert max(estimate_pack(pack).memory_bytes for pack in unlimited) > 7 * one
        largest = []
        for limit in (7 * one, 4 * one, 1.5 * one, one, one / 2):
            packs = packs_of(runs, gpu_memory_bytes=gpu_memory_bytes, memory_limit_bytes=int(limit))
            assert sorted(map(id, runs)) == sorted(id(run) for pack in packs for run in pack)
            assert all(estimate_pack(pack).memory_bytes <= limit or len(pack) == 1 for pack in packs)
            largest.append(max(map(len, packs)))
        assert largest == sorted(largest, reverse=True)
        assert largest[1] >= 3
        assert largest[-1] == 1


@pytest.mark.parametrize("kind", ["joint", "linear"])
def test_a_pack_takes_a_share_of_the_seconds_that_its_budget_leaves_it(kind: str) -> None:
    sizes = []
    for seconds in (None, 4, 1):
        budget = {"steps_per_stage": 1, "test_samples": 100, "seconds": seconds}
        packs = packs_of(grid(learners=[{"kind": kind}], n=64, dim=6, seeds=256, budget=budget).runs())
        sizes.append(len(packs[0]))
        limit = SHORT_PACK_SECONDS if seconds is None else seconds / 4
        assert all(estimate_pack(pack).seconds <= limit or len(pack) <= MAX_MEMBERS for pack in packs)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_long_runs_share_a_pack_as_far_as_their_budget_goes() -> None:
    """Each alone keeps it, all together would not; a run that does not keep it is a pack all the same."""
    fields = {"learners": [{"kind": "joint"}], "n": 64, "dim": 6, "seeds": 32}
    steps = {"steps_per_stage": 5000, "test_samples": 100}
    one = estimate_run(grid(budget=steps, **fields).runs()[0]).seconds
    for members in (0.5, 1.5, 4.5, 100):
        packs = packs_of(grid(budget=steps | {"seconds": members * one}, **fields).runs())
        assert {len(pack) for pack in packs} == {min(16, max(1, int(members)))}


def test_as_many_long_runs_share_a_pack_as_are_asked_for() -> None:
    spec = grid(learners=[{"kind": "joint"}], n=64, dim=6, seeds=40, budget={"steps_per_stage": 5000})
    for most, sizes in ((None, [16, 16, 8]), (8, [8] * 5), (32, [32, 8])):
        assert [len(pack) for pack in packs_of(spec.runs(), most)] == sizes


def test_a_search_for_restarts_is_foreseen() -> None:
    """A refinement that ends at a floor tries all of them, and takes several times as long."""

    def seconds(kind: str, **target: object) -> float:
        fields = {"learners": [{"kind": kind}], "n": 2000, "dim": 10, "seeds": 1}
        target = {"kind": "hierarchical_quadratic"} | target
        return estimate_run(grid(target=target, budget={"steps_per_stage": 1}, **fields).runs()[0]).seconds

    plain = seconds("algorithm_1")
    assert seconds("algorithm_1", label_noise=0.1) > 2 * plain
    assert seconds("algorithm_1", misspecification=0.1) > 2 * plain
    assert seconds("algorithm_1", task="classification") > 2 * plain


def test_a_pack_of_short_networks_holds_the_arrays_of_those_that_are_stepped_together() -> None:
    budget = {"steps_per_stage": 1, "test_samples": 100}
    runs = grid(learners=[{"kind": "joint"}], n=64, dim=6, seeds=64, budget=budget).runs()
    one, some, all_of_them = (estimate_pack(runs[:count]).memory_bytes for count in (1, MAX_MEMBERS, 64))
    begun = begun_bytes(runs[0])
    assert some - begun == MAX_MEMBERS * (one - begun)
    assert some < all_of_them < 1.1 * some


def test_the_size_of_packs_can_be_limited_down_to_one() -> None:
    learners = [{"kind": "algorithm_1"}, {"kind": "layerwise"}, {"kind": "oracle"}, {"kind": "linear"}]
    runs = grid(learners=learners).runs()
    assert [len(pack) for pack in packs_of(runs, 1)] == [1] * len(runs)
    of_kernels = [pack for pack in packs_of(runs, 3) if pack[0].learner.kind in {"oracle", "linear"}]
    assert max(map(len, of_kernels)) == 3
    assert sum(map(len, of_kernels)) == sum(run.learner.kind in {"oracle", "linear"} for run in runs)


def filled(pack) -> int:
    """What a pack puts on its device: the samples of each (n, seed) once, the arrays of a step for every run."""
    samples = {(run.n, run.seed, run.target.canonical_json()): sample_bytes(run, run.learner) for run in pack}
    return sum(samples.values()) + sum(step_bytes(run, run.learner) for run in pack)


def test_a_pack_fills_the_memory_of_a_device_and_no_more() -> None:
    runs = grid(n=[2000, 64, 500], dim=8, seeds=20).runs()
    families = [run for run in runs if run.learner.kind != "joint"]
    least = max(filled([run for run in families if (run.n, run.seed) == (2000, seed)]) for seed in range(20))
    for memory_bytes in (least, 10 * least, 25 * least):
        packs = packs_of(runs, gpu_memory_bytes=memory_bytes)
        assert sorted(map(id, runs)) == sorted(id(run) for pack in packs for run in pack)
        assert max(map(filled, packs)) <= memory_bytes
        # The next family would not have fitted: each pack but the last of its shape is more than half full.
        together = [pack for pack in packs if pack[0].learner.kind == "joint"]
        assert all(
            filled(pack) + filled(following[:1]) > memory_bytes
            for pack, following in itertools.pairwise(together)
        )
    sizes = [
        len(packs_of(runs, gpu_memory_bytes=memory_bytes)) for memory_bytes in (least, 10 * least, 25 * least)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_arms_that_do_not_fit_a_device_together_stay_together() -> None:
    packs = packs_of(grid(n=64, dim=6, seeds=3).runs(), gpu_memory_bytes=1)
    assert sorted(len(pack) for pack in packs) == [1, 1, 1, 3, 3, 3]


def test_a_large_device_gets_packs_of_a_bounded_number_of_runs() -> None:
    spec = grid(learners=[{"kind": "joint"}], n=64, dim=6, seeds=600)
    assert [len(pack) for pack in packs_of(spec.runs(), gpu_memory_bytes=2**40)] == [
        MAX_SHORT_MEMBERS,
        MAX_SHORT_MEMBERS,
        600 - 2 * MAX_SHORT_MEMBERS,
    ]
    assert {len(pack) for pack in packs_of(spec.runs(), 50, gpu_memory_bytes=2**40)} == {50}


def test_kernel_runs_have_the_same_packs_whatever_the_networks_device() -> None:
    spec = grid(learners=[{"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}, {"kind": "linear"}])
    assert packs_of(spec.runs()) == packs_of(spec.runs(), gpu_memory_bytes=2**20)


@pytest.mark.parametrize(("task", "numbers"), [("regression", 9), ("classification", 10)])
def test_samples_are_counted_in_the_precision_they_train_in(task: str, numbers: int) -> None:
    for precision, size in (("float32", 4), ("float64", 8)):
        (run,) = grid(
            target={"kind": "hierarchical_quadratic", "task": task},
            learners=[{"kind": "joint", "precision": precision}],
            n=100,
            dim=8,
            seeds=1,
        ).runs()
        assert sample_bytes(run, run.learner) == size * numbers * 100


def test_runs_of_one_seed_stay_together_whatever_n() -> None:
    for learner in (
        {"kind": "joint"},
        {"kind": "linear"},
        {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}},
    ):
        runs = grid(learners=[learner], n=[64, 32, 128], dim=6, seeds=20).runs()
        seeds = [run.seed for pack in packs_of(runs) for run in pack if learner["kind"] == "joint"]
        seeds = seeds or [run.seed for run in packs_of(runs[:30])[0]]
        assert seeds == sorted(seeds)


def test_a_gram_is_shared_by_targets_that_differ() -> None:
    """Two alphas of one seed have one gram: they are neighbours, the largest n first."""
    learner = {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}
    (pack,) = packs_of(grid(learners=[learner], dim=6, seeds=2, alphas=[[1, 0.1], [1, 0.2]]).runs())
    assert [(run.seed, run.n) for run in pack] == [
        (seed, n) for seed in (0, 1) for n in (128, 64) for _ in range(2)
    ]


def test_arms_of_one_seed_hold_their_samples_once() -> None:
    """Whatever the target is told by: some have no hash."""
    target = {"kind": "hierarchical_quadratic", "connections": {"2": [1], "3": [0, 2]}}
    learners = [{"kind": "algorithm_1"}, {"kind": "layerwise"}]
    runs = grid(target=target, learners=learners, n=100_000, dim=50, seeds=2).runs()
    arms = [run for run in runs if run.seed == 0]
    one, both, three = (estimate_pack(pack).memory_bytes for pack in (arms[:1], [arms[0], runs[-1]], arms))
    assert len(arms) == 3
    assert three - one < both - one + estimate_pack(arms[:2]).memory_bytes - one
    assert estimate_pack(arms[:2]).memory_bytes < both
