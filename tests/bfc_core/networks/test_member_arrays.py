"""A member's numbers do not depend on where in a pack it stands: every member begins at the same place of a line."""

import pytest
import torch

from bfc_core.evaluation import pose
from bfc_core.learners.hierarchical import HierarchicalPack
from bfc_core.networks.member_arrays import lines_of, member_arrays, member_rows
from bfc_core.seeding import generator_for
from bfc_core.specs import ExperimentSpec
from bfc_core.training.adam import Adam, AdamSteps
from bfc_core.training.progress import SilentObserver
from bfc_core.training.stepping import Steps

LINE = 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7,), (9, 9), (16, 4), (3, 5, 7), (1, 1)])
def test_members_are_whole_lines_apart(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    like = torch.zeros(5, 3, dtype=dtype)
    arrays = member_arrays(like, *shape)
    assert arrays.shape == (5, *shape)
    assert arrays.dtype == dtype
    assert all(array.is_contiguous() for array in arrays)
    starts = [array.data_ptr() for array in arrays]
    assert {(start - starts[0]) % LINE for start in starts} == {0}
    ends = [array.data_ptr() + array.nbytes for array in arrays]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    arrays.fill_(1.0)
    assert arrays.sum() == arrays.numel()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_whatever_a_step_writes_by_a_product_is_so_aligned(precision: str) -> None:
    """Odd sizes throughout; without the alignment the 9 × 9 forms of every other member ended in other bits."""
    spec = ExperimentSpec.model_validate(
        {
            "name": "odd",
            "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.3]},
            "learners": [{"kind": "joint", "precision": precision, "batch_size": 9, "width": 8}],
            "n": 48,
            "dim": 6,
            "seeds": 3,
            "budget": {"test_samples": 16},
        }
    )
    runs = spec.runs()
    pack = HierarchicalPack(runs, [pose(run) for run in runs], SilentObserver(), "cpu", None)
    stage = pack.stages[0][0]
    entering = [pack._entering(0, run, {}) for run in range(3)]
    members = pack._members([0, 1, 2], entering)
    adam = Adam.fresh(members.flat)
    steps = Steps(pack.network, members, pack._data, stage, pack.recipe, pack.objective, adam)
    written = [steps.gradient, members.flat, adam.first, adam.second]
    written += [steps._gradients._output, steps._gradients._terms]
    for level in steps._gradients._levels.values():
        written += [level.y, level.narrow, level.h]
        written += [level.form] if level.by_form else []
        written += [level.pre, level.above] if level.lift is not None else []
    for part in steps._regularizer._parts:
        written += [
            array for name in ("_gap", "_signed", "_mixed") if (array := vars(part).get(name)) is not None
        ]
        written += vars(part).get("_grams", [])
    assert len(written) > 10
    for array in written:
        starts = [member.data_ptr() for member in array]
        assert {(start - starts[0]) % LINE for start in starts} == {0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("parameters", [1, 7, 16, 33])
def test_an_optimiser_step_moves_a_member_by_the_same_bits_wherever_it_stands(
    parameters: int, dtype: torch.dtype
) -> None:
    """A fused step treats the last numbers of an array otherwise than the rest; no member may stand there."""
    generator = generator_for(parameters, "init")
    start, slopes = (torch.randn(5, parameters, generator=generator, dtype=dtype) for _ in range(2))

    def moved(members: slice) -> torch.Tensor:
        flat, gradient = member_rows(start[members]), member_rows(slopes[members])
        steps = AdamSteps(Adam.fresh(flat), flat, gradient, clip_norm=1.0)
        for count in range(5):
            gradient.copy_(slopes[members] * 0.9**count)
            steps.take(0.01)
        return flat

    together = moved(slice(0, 5))
    for member in range(5):
        assert torch.equal(moved(slice(member, member + 1))[0], together[member])


def test_lines_are_those_of_rows_made_for_them() -> None:
    rows = member_rows(torch.arange(21.0).view(3, 7))
    assert lines_of(rows).tolist() == [*range(7), *[0] * 9, *range(7, 14), *[0] * 9, *range(14, 21), *[0] * 9]
    for others in (torch.zeros(3, 7), torch.zeros(1, 7), rows[:, 1:], rows[::2]):
        with pytest.raises(ValueError, match="not whole lines apart"):
            lines_of(others)
