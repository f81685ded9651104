"""How many trivial runs a second go through the whole service, from the POST to having read that all succeeded.

A trivial run is one whose computing is next to nothing: what an oracle or the mean predicts of a target in six
dimensions. Everything else is what a deployment does for any run: planning, storing, wake-ups, claims, a process a
pack, measurements, reports, events.
"""

from typing import Any

from benchmarks.stack import EMBEDDED, deployments, running
from benchmarks.timing import Ratio, Result

CLAIM = (
    "The embedded stack (SQLite, files, one worker of two slots) takes 200 trivial runs a second from end to end; "
    "with PostgreSQL and Redis or RabbitMQ it takes 300."
)

SEEDS = 500
LEARNERS = [{"kind": "oracle", "knows": "bayes"}, {"kind": "oracle", "knows": "constant"}]
SIZES = [16, 32]
RUNS = SEEDS * len(LEARNERS) * len(SIZES)
ASKED = {EMBEDDED: 200.0, "PostgreSQL, Redis": 300.0, "PostgreSQL, RabbitMQ": 300.0}


def measure(repetitions: int) -> Result:
    """Every deployment in turn; each experiment has seeds of its own, so that nothing is reused."""
    seconds: dict[str, list[float]] = {}
    for name in deployments():
        with running(name) as stack:
            stack.seconds_of(_grid(0, 8))  # imports, connections and the helper process are warm
            seconds[name] = [
                stack.seconds_of(_grid(1000 * (number + 1), SEEDS)) for number in range(min(repetitions, 3))
            ]
    return Result(
        seconds=seconds,
        ratios=[
            Ratio(f"runs a second: {name}", tuple(RUNS / value for value in values), bound=ASKED[name])
            for name, values in seconds.items()
        ],
        facts={"runs of one experiment": RUNS, "workers": 1, "slots": 2},
    )


def _grid(first_seed: int, seeds: int) -> dict[str, Any]:
    return {
        "name": "trivial",
        "target": {"kind": "staircase"},
        "learners": LEARNERS,
        "n": SIZES,
        "dim": 6,
        "seeds": list(range(first_seed, first_seed + seeds)),
        "budget": {"test_samples": 16},
    }
