"""Gauss–Newton refinement: it finds a nearby target exactly, never makes things worse, and knows when to refrain."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.errors import PackInterrupted
from bfc_core.network_cost import MAX_MEMBERS
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.packing import packs_of
from bfc_core.run import execute_pack
from bfc_core.seeding import generator_for
from bfc_core.specs import ExperimentSpec, HierarchicalQuadratic, Report, RunSpec, hierarchy_of
from bfc_core.training import pack_refinement
from bfc_core.training.lockstep import Lockstep, alone
from bfc_core.training.objective import Objective
from bfc_core.training.progress import SilentObserver
from bfc_core.training.refinement import Refinement, parameters_of
from bfc_core.training.schedule import can_be_refined, refinement_bytes

TWO_LEVELS = HierarchicalQuadratic(kind="hierarchical_quadratic", widths=(2, 1), alphas=(1.0, 0.3))


def outputs(
    network: DistilledDenseNet,
    flat: torch.Tensor,
    lifts: dict[int, torch.Tensor],
    alphas: dict[int, torch.Tensor],
    x: torch.Tensor,
) -> torch.Tensor:
    """F of one member by the readable forward pass."""
    frozen = (
        {level: lift[None] for level, lift in lifts.items()},
        {j: alpha[None] for j, alpha in alphas.items()},
    )
    return network.forward(flat[None], *frozen, x[None], tuple(alphas)).output[0]


def problem(
    alpha: float = 0.3, trainable: tuple[int, ...] = (2, 3), label_noise: float = 0.0
) -> tuple[Refinement, torch.Tensor, torch.Tensor]:
    """A refinement whose labels a row of the same network gives, that row, and one nearby."""
    network = DistilledDenseNet(hierarchy_of(TWO_LEVELS), dim=4, width=3, truncation=None).with_tied((2, 3))
    generator = generator_for(1, "init")
    lifts = network.draw_lifts(generator)
    true = network.draw_weights(generator, 0.5)
    near = true.clone()
    shift = torch.randn(true.shape, generator=generator, dtype=torch.float64)
    near[network.places(trainable)] += 0.05 * shift[network.places(trainable)]
    alphas = {2: torch.tensor(1.0, dtype=torch.float64), 3: torch.tensor(alpha, dtype=torch.float64)}
    x = torch.randn(5000, 4, generator=generator_for(1, "inputs"), dtype=torch.float64)
    y = outputs(network, true, lifts, alphas, x)
    y = y + label_noise * torch.randn(5000, generator=generator_for(1, "noise"), dtype=torch.float64)
    refinement = Refinement(
        network,
        lifts,
        alphas,
        torch.ones_like(true),
        x,
        y,
        None,
        Objective("huber", delta=0.3),
        (2, 3),
        trainable,
    )
    return refinement, true, near


def test_a_nearby_target_is_found_to_the_last_digits() -> None:
    refinement, _, near = problem()
    found = alone(refinement.descent(near, 60))
    predicted = outputs(refinement.network, found, refinement.lifts, refinement.alphas, refinement.x)
    torch.testing.assert_close(predicted, refinement.y, rtol=1e-8, atol=1e-8)


def test_a_frozen_level_and_the_wide_weights_stay() -> None:
    refinement, _, near = problem(trainable=(3,))
    found = alone(refinement.descent(near, 10))
    moved = (found != near).nonzero().flatten().tolist()
    assert moved
    assert set(moved) <= set(refinement.network.places((3,)).tolist())


def test_a_level_that_nobody_feels_does_not_disturb_the_others() -> None:
    refinement, _, near = problem(alpha=0.0)
    found = alone(refinement.descent(near, 40))
    assert found.isfinite().all()
    predicted = outputs(refinement.network, found, refinement.lifts, refinement.alphas, refinement.x)
    assert refinement.objective.value(predicted, refinement.y) < 1e-15
    unfelt = refinement.network.places((3,))
    torch.testing.assert_close(found[unfelt], near[unfelt], rtol=0, atol=0)


def test_noise_is_not_chased_and_more_steps_change_nothing() -> None:
    refinement, true, near = problem(label_noise=0.2)
    found, further = alone(refinement.descent(near, 60)), alone(refinement.descent(near, 120))
    torch.testing.assert_close(found, further, rtol=1e-5, atol=1e-6)
    clean, predicted = (
        outputs(refinement.network, flat, refinement.lifts, refinement.alphas, refinement.x)
        for flat in (true, found)
    )
    # 13 parameters, 5000 rows: the excess risk is about noise² · p / n.
    assert float((predicted - clean).square().mean()) < 5 * 0.2**2 * 13 / 5000


@pytest.mark.parametrize("loss", ["huber", "squared", "logistic"])
def test_curvature_is_no_less_than_the_second_derivative(loss: str) -> None:
    objective = Objective(loss, delta=0.3, margin_slope=3.0)  # type: ignore[arg-type]
    y = torch.randn(1, 200, generator=generator_for(4, "test"), dtype=torch.float64).sign()
    predicted = torch.randn(1, 200, generator=generator_for(3, "test"), dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(objective.value(predicted, y).sum(), predicted, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), predicted)
    curvature = objective.row_curvatures(predicted.detach(), y) / 200
    assert (curvature >= second - 1e-12).all()
    if loss != "huber":
        torch.testing.assert_close(curvature, second)


def runs(**changes: object) -> list[RunSpec]:
    fields: dict[str, object] = {
        "name": "tiny",
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3]},
        "learners": [{"kind": kind, "width": 8, "batch_size": 64} for kind in ("algorithm_1", "joint")],
        "n": 600,
        "dim": 6,
        "seeds": [3],
        "budget": {"steps_per_stage": 400, "test_samples": 500},
    }
    return ExperimentSpec.model_validate(fields | changes).runs()


def solo(run: RunSpec) -> Report:
    return execute_pack([run])[0]


def test_every_arm_is_refined_alike_at_the_door() -> None:
    for run in runs():
        refined = solo(run)
        plain = solo(
            run.model_copy(update={"learner": run.learner.model_copy(update={"refinement_steps": 0})})
        )
        assert refined.selection["is_refined"] is True
        assert plain.selection["is_refined"] is False
        assert refined.steps == plain.steps
        assert refined.metrics is not None
        assert plain.metrics is not None
        assert (refined.metrics.nmse or 0) < (plain.metrics.nmse or 0)


def test_too_few_samples_for_the_parameters_are_not_chased() -> None:
    assert not can_be_refined(parameters=20, rows=79)
    assert can_be_refined(parameters=20, rows=80)
    network = DistilledDenseNet(hierarchy_of(TWO_LEVELS), dim=6, width=3, truncation=None)
    assert parameters_of(network, (2, 3)) == 2 * 6 + 1 * (3 + 6)
    report = solo(runs(n=64)[0])
    assert report.selection["is_refined"] is False


@pytest.mark.parametrize("label_noise", [0.0, 0.2])
def test_packed_refinement_equals_solo(label_noise: float) -> None:
    target = {
        "kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3], "label_noise": label_noise,
    }  # fmt: skip
    learner = {"kind": "algorithm_1", "width": 8, "precision": "float64"}
    (pack,) = packs_of(runs(seeds=[3, 4], learners=[learner], target=target))
    for run, report in zip(pack, execute_pack(pack), strict=True):
        single = solo(run)
        assert single.metrics is not None
        assert report.metrics is not None
        assert report.metrics.nmse == pytest.approx(single.metrics.nmse, rel=1e-9, abs=1e-20)


def test_all_arms_of_a_pack_are_refined_together_and_each_as_alone() -> None:
    """As many as their estimate allows, more than are stepped together; they move other levels, and one has fewer."""
    learners = [{"kind": kind, "width": 8, "precision": "float64"} for kind in ("algorithm_1", "layerwise")]
    (pack,) = packs_of(runs(seeds=4, n=[300, 600], learners=learners, budget={"steps_per_stage": 50}))
    assert len(pack) == 24 > MAX_MEMBERS
    for run, report in zip(pack, execute_pack(pack), strict=True):
        single = solo(run)
        assert single.metrics is not None
        assert report.metrics is not None
        assert report.metrics.nmse == pytest.approx(single.metrics.nmse, rel=1e-9, abs=1e-20)
        assert report.selection == single.selection
        assert report.flops == single.flops


class Interrupted(SilentObserver):
    """Stops a pack where only the 200 steps of its refinement are left, once it has been asked there so often."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.seen: list[int] = []
        self.total = 0

    def progressed(self, step: int, steps: int) -> None:
        self.seen.append(step)
        self.total = steps
        self.left -= step == steps - 200

    def stop_requested(self) -> bool:
        return self.left < 0


def interrupted(pack: list[RunSpec], times: int, folder: Path) -> dict[str, Any]:
    """The checkpoint of a pack that was interrupted within its refinement."""
    with pytest.raises(PackInterrupted):
        execute_pack(pack, Interrupted(times), checkpoints=CheckpointFolder(folder))
    saved = CheckpointFolder(folder).load()
    assert saved is not None
    assert saved["position"] == [4, 0]
    return saved


def known(report: Report) -> dict[str, object]:
    return report.model_dump(exclude={"seconds", "solve_seconds"})


def test_who_has_been_refined_before_an_interruption_is_not_refined_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it took is not forgotten either, and progress never passes its end."""
    monkeypatch.setattr("bfc_core.learners.pack_watch.POLL_SECONDS", 0.0)
    learners = [{"kind": kind, "width": 8} for kind in ("algorithm_1", "layerwise")]
    pack = runs(seeds=3, learners=learners, budget={"steps_per_stage": 50})
    whole = [known(report) for report in execute_pack(pack)]
    counts = set()
    for times in (1, 15, 60):
        saved = interrupted(pack, times, tmp_path / str(times))
        counts.add(sum(member["spent"]["is_refined"] for member in saved["members"]))
        observer = Interrupted(10**9)
        folder = CheckpointFolder(tmp_path / "then" / str(times), (tmp_path / str(times),))
        assert [known(report) for report in execute_pack(pack, observer, checkpoints=folder)] == whole
        assert observer.seen == sorted(observer.seen)
        assert observer.seen[0] == observer.total - 200
        assert observer.seen[-1] == observer.total
    assert min(counts) == 0
    assert 0 < max(counts) < 9


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("members", [2, 3])
def test_a_pack_whose_members_stood_in_other_company_goes_on(
    number: int, members: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that refined 16 at a time, or arm by arm, left checkpoints; so does a GPU with other memory."""
    monkeypatch.setattr("bfc_core.learners.pack_watch.POLL_SECONDS", 0.0)
    pack = runs(seeds=3, learners=[{"kind": "algorithm_1", "width": 8}], budget={"steps_per_stage": 50})
    whole = [known(report) for report in execute_pack(pack)]
    saved = interrupted(pack, 1, tmp_path / "1")
    saved["position"] = [4, number]
    saved["current"] = {
        name: value[:members] if isinstance(value, torch.Tensor) else value
        for name, value in saved["current"].items()
    }
    for told in (saved["members"][:members], saved["members"][::-1][:members], None):
        changed = saved | {"members": told}
        if told is None:
            del changed["members"]
        folder = tmp_path / str(told is None) / str(told and told[0]["key"])
        CheckpointFolder(folder).save(1, changed)
        resumed = execute_pack(pack, checkpoints=CheckpointFolder(folder / "then", (folder,)))
        assert [known(report) for report in resumed] == whole


def test_no_more_members_are_begun_than_their_rows_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest of them decides; the arms are one group, which is what the lockstep is given."""
    given = []

    class Watched(Lockstep):  # type: ignore[type-arg]
        def __init__(self, askings: list[Any], together: int, ended: Callable[[int], None]) -> None:
            given.append((len(askings), together))
            super().__init__(askings, together, ended)

    monkeypatch.setattr(pack_refinement, "Lockstep", Watched)
    monkeypatch.setattr(pack_refinement, "TOGETHER_BYTES", 3 * refinement_bytes(600, 6))
    learners = [{"kind": kind, "width": 8} for kind in ("algorithm_1", "layerwise")]
    execute_pack(runs(seeds=2, n=[300, 600], learners=learners, budget={"steps_per_stage": 1}))
    assert given == [(12, 3)]


def test_a_pack_may_have_more_long_runs_than_are_stepped_together() -> None:
    """As one that was planned for a GPU has, or with a larger BFC_PACK_MEMBERS."""
    pack = runs(seeds=40, learners=[{"kind": "joint", "width": 8}], budget={"steps_per_stage": 5000})
    assert len(packs_of(pack)) == 3
    (whole,) = packs_of(pack, gpu_memory_bytes=2**30)
    with pytest.raises(PackInterrupted):
        execute_pack(whole, Interrupted(-1))
