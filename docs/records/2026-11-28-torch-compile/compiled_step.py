"""A training step through ``torch.compile`` against the step in kept arrays that packs really take.

    OMP_NUM_THREADS=1 PYTHONPATH=. python docs/records/2026-11-28-torch-compile/compiled_step.py

The compiled step is the closed form written plainly, without truncation (which costs the other one a look at every
step) and with everything that a compiler can fuse in one graph: gathering, forward and backward pass, the regulariser,
clipping and Adam. It needs a C++ compiler. CPU seconds, arms in turn: they mean something on a busy machine too.
"""

import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.packed_training import FLAGSHIP, SMALL, Shape, runs_of
from bfc_core.evaluation import pose
from bfc_core.learners.hierarchical import HierarchicalPack
from bfc_core.specs import LOWEST_LEVEL
from bfc_core.training.adam import BETA_1, BETA_2, Adam, corrected
from bfc_core.training.objective import Objective
from bfc_core.training.progress import SilentObserver
from bfc_core.training.regularizer import tie_matrices
from bfc_core.training.stepping import Steps

STEPS = 64
SHAPES: tuple[tuple[str, Shape, int], ...] = (("flagship", FLAGSHIP, 16), ("small", SMALL, 4))


class OneStage:
    """The first stage of a joint pack: its steps as they are, and the same step written for a compiler."""

    def __init__(self, shape: Shape, members: int, precision: str = "float32") -> None:
        runs = runs_of(shape, members, STEPS, truncation=None, precision=precision)
        pack = HierarchicalPack(runs, [pose(run) for run in runs], SilentObserver(), "cpu", None)
        self.pack, self.recipe, self.stage = pack, pack.recipe, pack.stages[0][0]
        entering = [pack._entering(0, run, self.stage, {}) for run in range(members)]  # noqa: SLF001
        self.members = pack._members(list(range(members)), entering)  # noqa: SLF001
        self.data = pack._data  # noqa: SLF001
        self.batches = self.members.batches(0, self.recipe.batch_size)[:STEPS]
        self.start = self.members.flat.clone()
        self.rates = [corrected(self.recipe.step_size, count) for count in range(1, STEPS + 1)]

    def as_it_is(self) -> Tensor:
        """So many steps; the parameters at their end."""
        self.members.flat.copy_(self.start)
        adam = Adam.fresh(self.members.flat)
        steps = Steps(
            self.pack.network, self.members, self.data, self.stage, self.recipe, self.pack.objective, adam
        )
        steps.take(self.batches, [self.recipe.step_size] * STEPS, None)
        return self.members.flat

    def compiled(self, step: Callable[..., Any]) -> Tensor:
        """The same number of calls of ``step``."""
        flat = self.start.clone()
        first, second = torch.zeros_like(flat), torch.zeros_like(flat)
        for rows, rates in zip(self.batches, self.rates, strict=True):
            rate, epsilon = (torch.tensor(number, dtype=flat.dtype) for number in rates)
            flat, first, second = step(flat, first, second, rows, rate, epsilon)
        return flat

    def step(self) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        """One step, written plainly: parameters and moments after it."""
        network, recipe, members, data = self.pack.network, self.recipe, self.members, self.data
        mean, lifts, alphas = network.hierarchy.level_one_mean, members.lifts, members.alphas
        levels = network.levels
        feeding = {j for shape in levels.values() for j in shape.sources if j >= LOWEST_LEVEL}
        blocks = {level: [shape.columns(j) for j in shape.sources] for level, shape in levels.items()}
        ties = {
            level: alphas[level].square()[:, None, None]
            * torch.stack(list(tie_matrices(network, level, recipe.tie_weights).values()))
            .sum(0)
            .to(members.flat)
            for level in levels
        }

        def move(
            flat: Tensor, first: Tensor, second: Tensor, rows: Tensor, rate: Tensor, epsilon: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            x, y = data.x[rows].mT, data.y[rows]
            read = {0: x, 1: x * x - mean}
            output = torch.zeros_like(y)
            kept = {}
            for level, shape in levels.items():
                h = (
                    torch.cat([read[j] for j in shape.sources], 1)
                    if len(shape.sources) > 1
                    else read[shape.sources[0]]
                )
                w, k = network.weights(flat, level), network.distilled(flat, level)
                wide = w @ h
                output = output + alphas[level][:, None] * (wide * wide).sum(1)
                pre = lifts[level] @ (k @ h) if level in feeding else None
                kept[level] = h, wide, pre
                if pre is not None:
                    read[level] = pre * pre
            slope = Objective.of(recipe, "regression").row_slopes(output, y) / y.shape[-1]
            above: dict[int, Tensor] = {}
            gradients = []
            for level in reversed(levels):
                shape = levels[level]
                h, wide, pre = kept[level]
                z = network.stacked(flat, level)
                into = 2 * alphas[level][:, None, None] * slope[:, None] * wide
                if pre is not None:
                    into = torch.cat([into, (2 * lifts[level]).mT @ (above[level] * pre)], 1)
                for j in shape.sources:
                    if j >= LOWEST_LEVEL:
                        above[j] = z[:, : into.shape[1], shape.columns(j)].mT @ into
                data_part = into @ h.mT
                if pre is None:
                    data_part = torch.nn.functional.pad(data_part, (0, 0, 0, shape.k))
                gradients.append((data_part + _regularizer(z, level)).flatten(1))
            gradient = torch.cat(gradients[::-1], 1)
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient = gradient * (recipe.clip_norm / norm.clamp_min(1e-30)).clamp_max(1.0)
            first = first.lerp(gradient, 1 - BETA_1)
            second = BETA_2 * second + (1 - BETA_2) * gradient * gradient
            return flat - rate * first / (second.sqrt() + epsilon), first, second

        def _regularizer(z: Tensor, level: int) -> Tensor:
            width, tie = network.width, ties[level]
            norm = 2 * self.stage.norm_weight(recipe)
            if z.shape[2] <= z.shape[1]:
                w, k = z[:, :width], z[:, width:]
                gap = 4 * tie * (k.mT @ k - w.mT @ w)
                return norm * z + torch.cat([-(w @ gap), k @ gap], 1)
            sign = tie.new_ones(z.shape[1])
            sign[:width] = -1.0
            signs = 4 * sign[:, None] * sign
            grams = [z[..., block] @ z[..., block].mT for block in blocks[level]]
            parts = []
            for block in blocks[level]:
                mixed = sum(
                    tie[:, other.start, block.start][:, None, None] * gram
                    for other, gram in zip(blocks[level], grams, strict=True)
                )
                parts.append((signs * mixed) @ z[..., block])
            return norm * z + torch.cat(parts, -1)

        return move


def _cpu(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def main(repetitions: int = 6) -> None:
    """Print ratios, microseconds of a member-step, and what a compilation cost."""
    torch.set_num_threads(1)
    exact = OneStage(FLAGSHIP, 2, "float64")
    apart = (exact.compiled(exact.step()) - exact.as_it_is()).abs().max()
    print(f"largest difference of a parameter after {STEPS} steps, float64: {apart:.1e}")
    for name, shape, members in SHAPES:
        stage = OneStage(shape, members)
        plain = stage.step()
        step = torch.compile(plain, fullgraph=True, dynamic=False)
        own = _cpu(lambda: stage.compiled(step))
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{name}: CPU seconds of the first steps {own:.1f}, of all compilers so far {children.ru_utime:.1f}"
        )
        found: dict[str, list[float]] = {"as it is": [], "written plainly": [], "compiled": []}
        for _ in range(repetitions):
            found["as it is"].append(_cpu(stage.as_it_is))
            found["written plainly"].append(_cpu(lambda: stage.compiled(plain)))
            found["compiled"].append(_cpu(lambda: stage.compiled(step)))
        for arm, seconds in found.items():
            ratios = [round(now / other, 2) for now, other in zip(found["as it is"], seconds, strict=True)]
            least = 1e6 * min(seconds) / STEPS / members
            print(f"{name}, {arm}: {least:.0f} us a member-step, as it is / this: {ratios}")


if __name__ == "__main__":
    main()
