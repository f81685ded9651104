"""The lifecycle on real databases, without any process: one database and the calls of a worker."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update

from bfc_core.packing import packs_of
from bfc_core.specs import ExperimentSpec, Metrics, Outcome, Report
from service import models
from service.database import Database, database_now, open_database
from service.models import (
    Attempt,
    AttemptOutcome,
    Event,
    Experiment,
    Pack,
    Run,
)
from service.runs import lifecycle
from service.runs.claims import Claim
from service.runs.moves import Failure

LEASE = timedelta(seconds=2)
LIMIT = 3
DIED = Failure("child_died", "it died")


class Bench:
    """One database and the calls of a worker; every call is one committed transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def accept(self, seeds: int = 3, kinds: tuple[str, ...] = ("joint",), priority: int = 0) -> Experiment:
        spec = ExperimentSpec.model_validate(
            {
                "name": "lifecycle",
                "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
                "learners": [{"kind": kind, "steps_per_stage": 10} for kind in kinds],
                "n": 64,
                "dim": 6,
                "seeds": seeds,
                "budget": {"test_samples": 64},
            }
        )
        runs = spec.runs()
        with self.database.writing() as session:
            experiment, wakeups = lifecycle.accept(
                session,
                spec,
                runs,
                packs_of(runs, 16),
                owner="tester",
                queue="train.cpu",
                republish_first=timedelta(seconds=5),
                priority=priority,
            )
        assert wakeups
        return experiment

    def claim(self, worker: str = "host/0/a", lease: timedelta = LEASE) -> Claim | None:
        with self.database.writing() as session:
            return lifecycle.claim(session, queue="train.cpu", worker_id=worker, device="cpu", lease=lease)

    def claimed(self, worker: str = "host/0/a", lease: timedelta = LEASE) -> Claim:
        claim = self.claim(worker, lease)
        assert claim is not None
        return claim

    def do(self, call: Callable, *arguments: object, **named: object) -> object:
        with self.database.writing() as session:
            return call(session, *arguments, **named)

    def expire(self, claim: Claim) -> None:
        """Let the lease run out without waiting for it."""
        with self.database.writing() as session:
            past = database_now(session) - timedelta(seconds=1)
            session.execute(update(Pack).where(Pack.id == claim.pack_id).values(lease_until=past))

    def pack(self, pack_id: int) -> Pack:
        with self.database.reading() as session:
            return session.get_one(Pack, pack_id)

    def runs(self, experiment: Experiment) -> list[Run]:
        with self.database.reading() as session:
            found = select(Run).where(Run.experiment_id == experiment.id).order_by(Run.seed)
            return list(session.scalars(found))

    def statuses(self, experiment: Experiment) -> list[str]:
        return [run.status.value for run in self.runs(experiment)]

    def experiment(self, experiment: Experiment) -> Experiment:
        with self.database.reading() as session:
            return session.get_one(Experiment, experiment.id)

    def attempts(self, claim: Claim) -> list[AttemptOutcome | None]:
        with self.database.reading() as session:
            query = select(Attempt.outcome).where(Attempt.pack_id == claim.pack_id).order_by(Attempt.fence)
            return list(session.scalars(query))

    def events(self, experiment: Experiment) -> list[Event]:
        with self.database.reading() as session:
            query = select(Event).where(Event.experiment_id == experiment.id).order_by(Event.id)
            return list(session.scalars(query))

    def report_count(self) -> int:
        with self.database.reading() as session:
            return session.execute(text("SELECT count(*) FROM reports")).scalar_one()


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    database = open_database(database_url)
    # The database is the module's; each test begins with an empty queue.
    with database.writing() as session:
        for table in reversed(models.Base.metadata.sorted_tables):
            session.execute(table.delete())
    yield Bench(database)
    database.dispose()


def reports_of(claim: Claim, outcome: Outcome = Outcome.SUCCEEDED) -> dict:
    report = Report(outcome=outcome, metrics=Metrics(nmse=0.1), seconds=1.0, steps=10, message="said")
    return dict.fromkeys(claim.run_ids, report)
