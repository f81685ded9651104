"""Member-steps a second: a pack with closed-form gradients against the plain autograd loop, one run at a time.

The loop is what one writes first: a module's parameters, ``backward()``, ``clip_grad_norm_`` and ``torch.optim.Adam``
on the same network, objective, batches and step sizes. That both compute the same is measured too, in float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Ratio, Result, in_turn, ratio
from bfc_core.evaluation import pose
from bfc_core.learners.hierarchical import HierarchicalPack
from bfc_core.networks.truncation import truncated_square
from bfc_core.seeding import generator_for
from bfc_core.specs import ExperimentSpec, Joint, RunSpec, hierarchy_of
from bfc_core.training.members import BATCH_BLOCK
from bfc_core.training.progress import SilentObserver

CLAIM = (
    "A pack trains at least 6 times as many member-steps a second as the plain autograd loop one run at a time: "
    "the flagship's shape in a pack of 16, the small wide-level shape in the pack that the planner makes; "
    "layers so wide that nothing is gained lose at most 5 %."
)

Shape = dict[str, object]
FLAGSHIP: Shape = {"widths": [3, 2], "alphas": [1, 0.1], "dim": 20, "width": 40, "batch": 512}
SMALL: Shape = {"widths": [20, 20, 20], "alphas": [1, 0.1, 0.01], "dim": 30, "width": 40, "batch": 256}
WIDE: Shape = {"widths": [32, 32], "alphas": [1, 0.1], "dim": 128, "width": 256, "batch": 512}

CHECKED_STEPS = 120


def measure(repetitions: int) -> Result:
    """Each shape's arms in turn; a pack takes as many steps as make its measurements along training negligible."""
    arms: dict[str, Callable[[], object]] = {}
    member_steps: dict[str, int] = {}
    for name, shape, members, steps, loop_steps in (
        ("flagship", FLAGSHIP, 16, 512, 256),
        ("small", SMALL, 4, 256, 64),
        ("wide", WIDE, 3, 32, 16),
    ):
        pack, alone = runs_of(shape, members, steps), runs_of(shape, 1, steps)
        for arm, runs in ((f"{name}: pack of {members}", pack), (f"{name}: pack of 1", alone)):
            arms[arm], member_steps[arm] = pack_of(runs), len(runs) * total_steps(runs[0])
        arm = f"{name}: autograd loop"
        arms[arm], member_steps[arm] = _loop(alone[0], loop_steps), loop_steps
    side = 1024
    left, right = torch.randn(side, side), torch.randn(side, side)
    arms["sgemm"] = lambda: [left @ right for _ in range(20)]
    seconds = in_turn(arms, repetitions)
    rate = {
        name: [member_steps[name] / s for s in of] for name, of in seconds.items() if name in member_steps
    }
    peak = [20 * 2 * side**3 / s for s in seconds["sgemm"]]
    small_flops = _flops_of_a_member_step(SMALL)
    by_kind = _time_by_kind(SMALL, 4)
    flagship_flops = _flops_of_a_member_step(FLAGSHIP)
    return Result(
        seconds,
        [
            ratio("flagship, 16 members", rate["flagship: pack of 16"], rate["flagship: autograd loop"], 6.0),
            ratio("small, 4 members", rate["small: pack of 4"], rate["small: autograd loop"], 6.0),
            ratio("wide, 3 members against 1", rate["wide: pack of 3"], rate["wide: pack of 1"], 0.95),
            ratio("wide, 3 members", rate["wide: pack of 3"], rate["wide: autograd loop"]),
            ratio("flagship, 1 member", rate["flagship: pack of 1"], rate["flagship: autograd loop"]),
            ratio("small, 1 member", rate["small: pack of 1"], rate["small: autograd loop"]),
            ratio("small, share of sgemm peak", rate["small: pack of 4"], peak, 0.45, scale=small_flops),
            ratio("flagship, share of sgemm peak", rate["flagship: pack of 16"], peak, scale=flagship_flops),
            Ratio("largest difference of a parameter, float64", (_difference(),), 1e-9, is_upper=True),
        ],
        {
            "flops of a member-step, flagship": flagship_flops,
            "flops of a member-step, small": small_flops,
            "member-steps/s, flagship pack": round(max(rate["flagship: pack of 16"])),
            "member-steps/s, small pack": round(max(rate["small: pack of 4"])),
            **{f"share of a small step's time, {kind}": round(share, 3) for kind, share in by_kind.items()},
        },
    )


def runs_of(shape: Shape, members: int, steps: int, **learner: object) -> list[RunSpec]:
    """One joint run a member, on data of its own."""
    spec = ExperimentSpec.model_validate(
        {
            "name": "packed training",
            "target": {
                "kind": "hierarchical_quadratic",
                "widths": shape["widths"],
                "alphas": shape["alphas"],
            },
            "learners": [
                {
                    "kind": "joint",
                    "width": shape["width"],
                    "batch_size": shape["batch"],
                    "steps_per_stage": steps,
                    "refinement_steps": 0,
                }
                | learner
            ],
            "n": 2000,
            "dim": shape["dim"],
            "seeds": members,
            "budget": {"test_samples": 64},
        }
    )
    return spec.runs()


def total_steps(run: RunSpec) -> int:
    """Optimiser steps of a run."""
    assert isinstance(run.learner, Joint)
    return 2 * len(hierarchy_of(run.target).levels) * run.learner.steps_per_stage


def pack_of(runs: list[RunSpec], together: int | None = None) -> Callable[[], object]:
    """Train these runs as one pack, ``together`` at a time; by default as many as the planner says."""
    problems = [pose(run) for run in runs]

    def train() -> object:
        pack = HierarchicalPack(runs, problems, SilentObserver(), "cpu", None, together=together)
        return pack.fit()

    return train


def _product_in_place(_into: torch.Size, left: torch.Size, right: torch.Size, **_: object) -> int:
    """Operations of ``baddbmm_``, which the counter does not know."""
    return 2 * left.numel() * right[-1]


def _flops_of_a_member_step(shape: Shape) -> int:
    """Operations in the matrix products of one step of one member. Measurements cancel in a difference."""
    counts = []
    for steps in (BATCH_BLOCK, 2 * BATCH_BLOCK):
        runs = runs_of(shape, 1, steps)
        train = pack_of(runs)
        with FlopCounterMode(
            display=False, custom_mapping={torch.ops.aten.baddbmm_: _product_in_place}
        ) as counter:
            train()
        counts.append((int(counter.get_total_flops()), total_steps(runs[0])))
    (fewer, short), (more, long) = counts
    return (more - fewer) // (long - short)


KINDS = {
    "products": {"bmm", "addmm_", "addmm", "baddbmm", "baddbmm_", "mm"},
    "gathering": {"index_select", "index", "random_"},
    "the optimiser's own": {"_fused_adam_", "linalg_vector_norm", "clamp_min_", "div"},
    "other passes over arrays": {
        "mul", "mul_", "add", "add_", "sub", "addcmul", "copy_", "fill_", "clamp_", "aminmax",
    },
}  # fmt: skip
"""Operations of a step by what they do; what is in none of them makes views and numbers: starting, not computing."""


def _time_by_kind(shape: Shape, members: int) -> dict[str, float]:
    """Shares of the time that torch's profiler sees in a step; measurements cancel as in the count of operations."""
    found: list[dict[str, float]] = []
    for steps in (BATCH_BLOCK, 2 * BATCH_BLOCK):
        train = pack_of(runs_of(shape, members, steps))
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            train()
        found.append({event.key: event.self_cpu_time_total for event in profiler.key_averages()})
    fewer, more = found
    times = {name.removeprefix("aten::"): time - fewer.get(name, 0.0) for name, time in more.items()}
    total = sum(times.values())
    shares = {kind: sum(times.get(name, 0.0) for name in names) / total for kind, names in KINDS.items()}
    return shares | {"starting": 1 - sum(shares.values())}


def _loop(run: RunSpec, steps: int) -> Callable[[], object]:
    pack = HierarchicalPack([run], [pose(run)], SilentObserver(), "cpu", None)
    return lambda: autograd_loop(run, pack, steps, steps)


def autograd_loop(run: RunSpec, pack: HierarchicalPack, steps: int, steps_of_stage: int) -> Tensor:
    """Train one run by autograd for ``steps`` of a stage; the flat parameters, as the pack orders them."""
    learner, hierarchy, network = run.learner, hierarchy_of(run.target), pack.network
    assert isinstance(learner, Joint)
    generator = generator_for(run.seed, "init")
    lifts = {level: lift.to(pack.dtype) for level, lift in network.draw_lifts(generator).items()}
    flat = network.draw_weights(generator, learner.init_scale).to(pack.dtype)[None]
    w = {level: network.weights(flat, level)[0].clone().requires_grad_() for level in network.levels}
    k = {level: network.distilled(flat, level)[0].clone().requires_grad_() for level in network.levels}
    parameters = [*w.values(), *k.values()]
    optimiser = torch.optim.Adam(parameters, lr=learner.step_size)
    problem = pose(run)
    x, y = problem.x.to(pack.dtype), problem.y.to(pack.dtype)
    huber = torch.nn.HuberLoss(delta=learner.huber_delta)
    for step in range(steps):
        if step % BATCH_BLOCK == 0:
            drawn = torch.randint(
                run.n,
                (BATCH_BLOCK, learner.batch_size),
                generator=generator_for(run.seed, "batches", step // BATCH_BLOCK),
            )
        rows = drawn[step % BATCH_BLOCK]
        read = {0: x[rows], 1: x[rows] ** 2 - hierarchy.level_one_mean}
        output, regulariser = torch.zeros(len(rows), dtype=pack.dtype), torch.zeros((), dtype=pack.dtype)
        for level, shape in network.levels.items():
            h = torch.cat([read[source] for source in shape.sources], 1)
            output = output + hierarchy.alphas[level] * ((h @ w[level].T) ** 2).sum(1)
            read[level] = truncated_square((h @ k[level].T) @ lifts[level].T, learner.truncation)
            gap = (k[level].T @ k[level] - w[level].T @ w[level]) ** 2
            below = shape.columns(level - 1)
            others = [shape.columns(source) for source in shape.sources if source != level - 1]
            tie = learner.tie_weights[1] * gap[below, below].sum() + learner.tie_weights[2] * gap.sum()
            for other in others:
                tie = tie + learner.tie_weights[0] * gap[below, other].sum()
            norms = (k[level] ** 2).sum() + (w[level] ** 2).sum()
            regulariser = regulariser + hierarchy.alphas[level] ** 2 * tie + learner.norm_weight * norms
        optimiser.param_groups[0]["lr"] = (
            learner.step_size * 0.5 * (1 + math.cos(math.pi * step / steps_of_stage))
        )
        optimiser.zero_grad()
        (huber(output, y[rows]) + regulariser).backward()
        torch.nn.utils.clip_grad_norm_(parameters, learner.clip_norm)
        optimiser.step()
    found = torch.zeros_like(flat)
    for level in network.levels:
        network.weights(found, level)[0] = w[level].detach()
        network.distilled(found, level)[0] = k[level].detach()
    return found[0]


def _difference() -> float:
    """How far the two ways are apart after some steps, both in float64."""
    runs = runs_of(FLAGSHIP, 1, CHECKED_STEPS // 4, precision="float64")
    pack = HierarchicalPack(runs, [pose(runs[0])], SilentObserver(), "cpu", None)
    predictor = pack.fit()[0].predictor
    total = total_steps(runs[0])
    return float((autograd_loop(runs[0], pack, total, total) - predictor.flat[0]).abs().max())  # type: ignore[union-attr]
