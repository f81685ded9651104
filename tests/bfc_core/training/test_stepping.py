"""Steps with their rates on the device are the plain steps; a pack on a GPU is the pack on a CPU."""

import pytest
import torch

from bfc_core.network_cost import CACHE_BYTES, MAX_MEMBERS, fastest_members, members_within, step_bytes
from bfc_core.networks.member_arrays import member_rows
from bfc_core.packing import packs_of
from bfc_core.run import execute_pack
from bfc_core.seeding import generator_for
from bfc_core.specs import ExperimentSpec, RunSpec
from bfc_core.training.adam import Adam, AdamSteps, corrected

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
    start = torch.randn(3, 40, generator=generator, dtype=torch.float64)
    flat, other, gradient, same = (member_rows(start) for _ in range(4))
    plain = AdamSteps(Adam.fresh(flat), flat, gradient, clip_norm=2.0)
    by_rates = AdamSteps(Adam.fresh(other), other, same, clip_norm=2.0)
    for count in range(1, 8):
        gradient.copy_(torch.randn(3, 40, generator=generator, dtype=torch.float64))
        same.copy_(gradient)
        by_rates.take_by(torch.tensor(corrected(0.1 / count, count), dtype=torch.float64))
        plain.take(0.1 / count)
        torch.testing.assert_close(other, flat, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(by_rates.adam.second, plain.adam.second, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    ("clip_norm", "tolerance"),
    [(0.7, 1e-6), (1e3, 1e-12)],
    ids=["clipped, which torch does by norm + 1e-6", "free"],
)
def test_adam_is_the_one_of_torch_member_by_member(clip_norm: float, tolerance: float) -> None:
    generator = generator_for(2, "init")
    flat = member_rows(torch.randn(2, 30, generator=generator, dtype=torch.float64))
    alone = [row.clone().requires_grad_() for row in flat]
    reference = [torch.optim.Adam([row], lr=0.05) for row in alone]
    gradient = member_rows(torch.zeros_like(flat))
    ours = AdamSteps(Adam.fresh(flat), flat, gradient, clip_norm)
    for scale in (0.01, 1.0, 0.1, 0.3, 0.01, 5.0):
        gradient.copy_(scale * torch.randn(2, 30, generator=generator, dtype=torch.float64))
        for row, its, optimiser in zip(alone, gradient, reference, strict=True):
            row.grad = its.clone()
            torch.nn.utils.clip_grad_norm_([row], clip_norm)
            optimiser.step()
        ours.take(0.05)
    torch.testing.assert_close(
        flat, torch.stack([row.detach() for row in alone]), rtol=tolerance, atol=tolerance
    )


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
