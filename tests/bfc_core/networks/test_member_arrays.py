"""A member's numbers do not depend on where in a pack it stands: every member begins at the same place of a line."""

import pytest
import torch

from bfc_core.evaluation import pose
from bfc_core.learners.hierarchical import HierarchicalPack
from bfc_core.networks.member_arrays import member_arrays
from bfc_core.specs import ExperimentSpec
from bfc_core.training.adam import Adam
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
    written = [steps.gradient]
    for level in steps._batch._levels.values():
        written += [level.y, level.h, level.scratch]
        written += [level.form] if level.by_form else []
        written += [level.pre, level.above] if level.lift is not None else []
    for part in steps._regularizer._parts:
        written += [
            array for name in ("_gap", "_form", "_mixed") if (array := vars(part).get(name)) is not None
        ]
        written += vars(part).get("_grams", [])
    assert len(written) > 10
    for array in written:
        starts = [member.data_ptr() for member in array]
        assert {(start - starts[0]) % LINE for start in starts} == {0}
