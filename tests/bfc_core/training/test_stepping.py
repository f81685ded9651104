"""Steps with their rates on the device are the plain steps; a pack on a GPU is the pack on a CPU."""

import pytest
import torch

from bfc_core.network_cost import CACHE_BYTES, MAX_MEMBERS, fastest_members, members_within, step_bytes
from bfc_core.packing import packs_of
from bfc_core.run import execute_pack
from bfc_core.seeding import generator_for
from bfc_core.specs import ExperimentSpec, RunSpec
from bfc_core.training.adam import Adam, corrected

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def runs(steps: int = 100, **changes: object) -> list[RunSpec]:
    fields: dict[str, object] = {
        "name": "tiny",
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3]},
        "learners": [{"kind": "algorithm_1", "precision": "float64", "batch_size": 32, "width": 8}],
        "n": 64,
        "dim": 6,
        "seeds": [3, 8, 11],
        "budget": {"steps_per_stage": steps, "test_samples": 256},
    }
    return ExperimentSpec.model_validate(fields | changes).runs()


def test_adam_with_its_rates_on_the_device_is_adam() -> None:
    generator = generator_for(1, "init")
    flat = torch.randn(3, 40, generator=generator, dtype=torch.float64)
    other = flat.clone()
    plain, by_rates = Adam.fresh(flat), Adam.fresh(other)
    for count in range(1, 8):
        gradient = torch.randn(3, 40, generator=generator, dtype=torch.float64)
        rates = torch.tensor(corrected(0.1 / count, count), dtype=torch.float64)
        by_rates.step_by(other, gradient.clone(), rates, clip_norm=2.0)
        plain.step(flat, gradient.clone(), 0.1 / count, clip_norm=2.0)
        torch.testing.assert_close(other, flat, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(by_rates.second, plain.second, rtol=0, atol=0)


def test_adam_is_the_one_of_torch_member_by_member() -> None:
    generator = generator_for(2, "init")
    flat = torch.randn(2, 30, generator=generator, dtype=torch.float64)
    alone = [row.clone().requires_grad_() for row in flat]
    reference = [torch.optim.Adam([row], lr=0.05) for row in alone]
    ours = Adam.fresh(flat)
    for _ in range(6):
        gradient = 0.01 * torch.randn(2, 30, generator=generator, dtype=torch.float64)
        for row, its, optimiser in zip(alone, gradient, reference, strict=True):
            row.grad = its.clone()
            optimiser.step()
        ours.step(flat, gradient, 0.05, clip_norm=1.0)
    torch.testing.assert_close(flat, torch.stack([row.detach() for row in alone]), rtol=1e-12, atol=1e-12)


def test_graphs_without_a_gpu_are_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="CUDA graphs need a GPU"):
        execute_pack(runs(), cuda_graphs=True)


def test_a_pack_fills_the_cache_or_the_memory_of_a_gpu() -> None:
    many = runs(seeds=40, steps=5000)
    learner = many[0].learner
    assert fastest_members(many[0], learner) == MAX_MEMBERS
    assert members_within(many[0], learner, 3 * step_bytes(many[0], learner)) == 3
    assert members_within(many[0], learner, 1) == 1
    assert [len(pack) for pack in packs_of(many)] == [16, 16, 8]
    assert [len(pack) for pack in packs_of(many, gpu_memory_bytes=2**30)] == [40]
    assert MAX_MEMBERS * step_bytes(many[0], learner) <= CACHE_BYTES


@pytest.mark.accelerator
@NO_GPU
@pytest.mark.parametrize("cuda_graphs", [False, True], ids=["operation by operation", "as a graph"])
def test_a_pack_on_a_gpu_reports_what_it_reports_on_a_cpu(*, cuda_graphs: bool) -> None:
    pack = runs(steps=10)
    there = execute_pack(pack, device="cuda", cuda_graphs=cuda_graphs)
    for on_gpu, on_cpu in zip(there, execute_pack(pack), strict=True):
        assert on_gpu.outcome == on_cpu.outcome
        assert on_gpu.metrics is not None
        assert on_cpu.metrics is not None
        assert on_gpu.metrics.nmse == pytest.approx(on_cpu.metrics.nmse, rel=1e-6)


@pytest.mark.accelerator
@NO_GPU
def test_packed_equals_solo_on_a_gpu() -> None:
    pack = runs(steps=10)
    for run, report in zip(pack, execute_pack(pack, device="cuda"), strict=True):
        (alone,) = execute_pack([run], device="cuda")
        assert report.metrics is not None
        assert alone.metrics is not None
        assert report.metrics.nmse == pytest.approx(alone.metrics.nmse, rel=1e-9)
