"""The training samples of a pack's runs in one array."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bfc_core.evaluation import Problem
from bfc_core.specs import RunSpec
from bfc_core.training.members import TrainingData


def joined_samples(
    specs: Sequence[RunSpec],
    problems: Sequence[Problem],
    device: str,
    dtype: torch.dtype,
    *,
    is_margin: bool,
) -> tuple[TrainingData, tuple[int, ...]]:
    """All training sets one after another, each set once, and the first row of every run's set.

    With ``is_margin`` the samples are (x₀, x) of classification, and x₀ is kept apart.
    """
    starts: dict[tuple[str, int, int], int] = {}
    firsts: list[int] = []
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    length = 0
    for spec, problem in zip(specs, problems, strict=True):
        key = (spec.target.canonical_json(), spec.n, spec.seed)
        if key not in starts:
            starts[key] = length
            xs.append(problem.x)
            ys.append(problem.y)
            length += spec.n
        firsts.append(starts[key])
    x, y = torch.cat(xs).to(device, dtype), torch.cat(ys).to(device, dtype)
    if is_margin:
        return TrainingData(x[:, 1:].contiguous(), y, offset=x[:, 0].contiguous()), tuple(firsts)
    return TrainingData(x, y), tuple(firsts)
