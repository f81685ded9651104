"""What a change of runs means for their experiment: events in order, the end, the table of transitions."""

import threading
import time

import pytest
from sqlalchemy import select

from service.models import (
    Event,
    EventName,
    ExperimentStatus,
    RunStatus,
)
from service.runs import claims, lifecycle
from service.runs.claims import Claim
from service.runs.transitions import (
    RUN_TRANSITIONS,
    TransitionNotAllowedError,
    check_run,
    experiment_status,
)
from tests.service.lifecycle_bench import Bench, reports_of
from tests.service.lifecycle_bench import bench as bench


def test_every_change_is_an_event_in_order(bench: Bench) -> None:
    experiment = bench.accept(seeds=1)
    claim = bench.claimed()
    bench.do(claims.record, claim, claims.News(progress=(5, 10)))
    bench.do(lifecycle.complete, claim, reports_of(claim))
    events = bench.events(experiment)
    assert [event.name.value for event in events] == [
        "experiment.progress",
        "run.state",
        "experiment.progress",
        "run.progress",
        "experiment.progress",
        "run.state",
        "experiment.progress",
    ]
    assert [e.payload["status"] for e in events if e.name is EventName.RUN_STATE] == ["running", "succeeded"]
    assert [e.payload["progress"] for e in events if e.name is EventName.EXPERIMENT_PROGRESS] == [
        0,
        0,
        0.5,
        1,
    ]
    assert events[-1].payload["status"] == "succeeded"


def test_events_of_parallel_writers_appear_in_the_order_of_their_ids(bench: Bench) -> None:
    """A reader that continues after the largest id it saw must not miss an earlier one that commits later."""
    experiment = bench.accept(seeds=40)
    packs = [bench.claimed() for _ in range(3)]
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        last = 0
        while True:
            is_last = done.is_set()
            with bench.database.reading() as session:
                query = select(Event.id).where(Event.experiment_id == experiment.id, Event.id > last)
                ids = list(session.scalars(query.order_by(Event.id)))
            seen.extend(ids)
            last = max([last, *ids])
            if is_last:
                return
            # A reader that never rests takes the interpreter from the writers, and they meet less often.
            time.sleep(0.002)

    def write(claim: Claim) -> None:
        for step in range(15):
            bench.do(claims.record, claim, claims.News(progress=(step, 15)))

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(claim,)) for claim in packs]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert seen == [event.id for event in bench.events(experiment)]
    assert len(seen) >= 90


def test_packs_that_end_together_still_end_their_experiment(bench: Bench) -> None:
    """Each of two transactions could see the other's runs as unfinished and leave the experiment running."""
    experiment = bench.accept(seeds=64)
    packs = []
    while (claim := bench.claim()) is not None:
        packs.append(claim)
    assert len(packs) == 4
    barrier = threading.Barrier(len(packs))

    def complete(claim: Claim) -> None:
        barrier.wait()
        bench.do(lifecycle.complete, claim, reports_of(claim))

    threads = [threading.Thread(target=complete, args=(claim,)) for claim in packs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.experiment(experiment).status is ExperimentStatus.SUCCEEDED
    assert bench.experiment(experiment).finished_at is not None


def test_only_the_table_of_transitions_is_allowed() -> None:
    for before, allowed in RUN_TRANSITIONS.items():
        assert before.is_terminal == (not allowed)
        for after in RunStatus:
            if after in allowed:
                check_run(before, after)
            else:
                with pytest.raises(TransitionNotAllowedError):
                    check_run(before, after)


@pytest.mark.parametrize(
    ("counts", "is_cancel_requested", "expected"),
    [
        ({"queued": 2}, False, "queued"),
        ({"queued": 1, "succeeded": 1}, False, "running"),
        ({"running": 1}, True, "cancelling"),
        ({"succeeded": 1, "diverged": 1}, False, "succeeded"),
        ({"succeeded": 1, "cancelled": 1}, True, "cancelled"),
        ({"succeeded": 1, "cancelled": 1}, False, "partially_succeeded"),
        ({"cancelled": 2}, False, "cancelled"),
        ({"failed": 2}, False, "failed"),
        ({"failed": 1, "succeeded": 1}, False, "partially_succeeded"),
        ({"failed": 1, "cancelled": 1}, False, "failed"),
        ({"succeeded": 2}, True, "succeeded"),
    ],
)
def test_an_experiment_is_what_its_runs_make_it(
    counts: dict[str, int],
    is_cancel_requested: bool,  # noqa: FBT001 - a parameter of the table
    expected: str,
) -> None:
    status = experiment_status(
        {RunStatus(name): number for name, number in counts.items()},
        started=False,
        is_cancel_requested=is_cancel_requested,
    )
    assert status == expected
