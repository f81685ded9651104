"""What a slot of a worker does between two packs: the share of a second's pack that is not its own computing.

The wall time is that between the first claim and the last report, as the experiment tells it; the computing is what
the reports say, which is measured in the process that trains. The difference is everything that the service does for
a pack: claim, process, files, measurements, reports, events, and the way to the next claim.
"""

from datetime import datetime

from benchmarks.stack import Stack, deployments, running
from benchmarks.timing import Ratio, Result

CLAIM = "Packs of one second keep a slot of a worker computing for more than 98 % of the time."

PACKS = 20
PACK_SECONDS = 1.0
PROBE_STEPS = 400


def measure(repetitions: int) -> Result:
    """One slot, where no pack waits for another's core or end; then two, where they do."""
    ratios, facts = [], {"packs": PACKS}
    for name in deployments():
        for slots in (1, 2):
            with running(name, concurrency=slots) as stack:
                _busy(stack, 0, 1, PROBE_STEPS)
                steps = _steps_of_a_second(stack)
                found = [
                    _busy(stack, 1000 * (number + 1), PACKS, steps) for number in range(min(repetitions, 3))
                ]
            label = f"{name}, {slots} slot{'s' if slots > 1 else ''}"
            shares = tuple(100 * (1 - seconds / (slots * wall)) for seconds, wall, _ in found)
            ratios.append(
                Ratio(
                    f"% of a slot's time without computing: {label}",
                    shares,
                    2.0 if slots == 1 else None,
                    is_upper=True,
                )
            )
            facts[f"seconds of a pack: {label}"] = round(
                sum(seconds / PACKS for seconds, _, _ in found) / len(found), 2
            )
    return Result(seconds={}, ratios=ratios, facts=facts)


def _busy(stack: Stack, first_seed: int, packs: int, steps: int) -> tuple[float, float, float]:
    """Seconds computed, seconds from the first claim to the last report, and seconds of computing a step and pack."""
    spec = {
        "name": "a second each",
        "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
        "learners": [{"kind": "joint", "width": 8, "batch_size": 32, "steps_per_stage": steps}],
        "n": 64,
        "dim": 6,
        "seeds": list(range(first_seed, first_seed + 16 * packs)),
        "budget": {"test_samples": 64},
    }
    assert stack.post(spec, dry_run=True)["packs"] == packs
    found = stack.wait_for(stack.post(spec)["id"])
    began, ended = (datetime.fromisoformat(found[name]) for name in ("started_at", "finished_at"))
    computed = sum(run["seconds"] for run in stack.runs(found["id"]))
    return computed, (ended - began).total_seconds(), computed / packs / steps


def _steps_of_a_second(stack: Stack) -> int:
    _, _, of_a_step = _busy(stack, 500, 1, 4 * PROBE_STEPS)
    return round(PACK_SECONDS / of_a_step)
