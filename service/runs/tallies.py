"""Counts for /metrics that cost the same with ten runs and with 10⁸.

Every transaction that changes something appends what it changes; nobody waits for anybody, as writers of one row of
counters would. Reading is one sum over one table in one statement, hence one snapshot: whichever process reads, what
was counted once is never missing later. ``fold`` replaces many rows by their sums, ``repair`` compares with the tables.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.orm import Session

from bfc_core.specs import Report
from service.models import Base, RunStatus, Tally, TallyName
from service.runs.run_counts import RunChange

logger = logging.getLogger(__name__)

MICROSECONDS = 1_000_000
MEGA = 1_000_000
FOLD_ROWS = 1000
"""Rows that are left alone: fewer are read in a millisecond or two."""

_MOST_FOLDED = 20_000
_REPAIR_LOCK = 0x62666301
_EMPTY = ""


@dataclass(frozen=True)
class Key:
    """What a row counts."""

    name: TallyName
    label: str = _EMPTY
    status: str = _EMPTY


@dataclass
class Amounts:
    """Changes of one transaction, added up by key before they are written."""

    counts: Counter[Key] = field(default_factory=Counter)
    amounts: Counter[Key] = field(default_factory=Counter)

    def add(self, key: Key, count: int = 0, amount: int = 0) -> None:
        """Note a change."""
        self.counts[key] += count
        self.amounts[key] += amount

    def write(self, session: Session) -> None:
        """Append what has been noted."""
        rows = [
            {
                "name": key.name,
                "label": key.label,
                "status": key.status,
                "count": count,
                "amount": self.amounts[key],
            }
            for key, count in self.counts.items()
            if count or self.amounts[key]
        ]
        if rows:
            session.connection().execute(insert(_TABLE), rows)


_TABLE = Base.metadata.tables[Tally.__tablename__]


def tally_accepted(session: Session, learner_kinds: Iterable[str]) -> None:
    """Count runs that were just stored, queued."""
    changes = Amounts()
    for kind, count in Counter(learner_kinds).items():
        changes.add(Key(TallyName.RUNS, kind, RunStatus.QUEUED), count)
    changes.write(session)


def tally_changes(session: Session, run_changes: Sequence[RunChange]) -> None:
    """Count runs that have just changed their status."""
    changes = Amounts()
    for change in run_changes:
        kind, after = change.run.learner_kind, change.run.status
        changes.add(Key(TallyName.RUNS, kind, change.before), -1)
        changes.add(Key(TallyName.RUNS, kind, after), 1)
        if after.is_terminal:
            changes.add(Key(TallyName.RUNS_ENDED, kind, after), 1)
    changes.write(session)


def tally_reports(session: Session, reports: Iterable[tuple[str, Report]]) -> None:
    """Count reports that were just stored, each with its run's kind of learner."""
    changes = Amounts()
    for kind, report in reports:
        changes.add(Key(TallyName.RUN_SECONDS, kind), 1, _microseconds(report.seconds))
        changes.add(Key(TallyName.RUN_STEPS, kind), 1, report.steps)
        if report.flops is not None:
            changes.add(Key(TallyName.RUN_MEGAFLOPS, kind), 1, round(report.flops / MEGA))
        if report.solve_seconds is not None:
            changes.add(Key(TallyName.SOLVE_SECONDS, kind), 1, _microseconds(report.solve_seconds))
    changes.write(session)


def tally_wait(session: Session, queue: str, seconds: float) -> None:
    """Count a pack's first claim."""
    changes = Amounts()
    changes.add(Key(TallyName.QUEUE_WAIT, queue), 1, _microseconds(max(0.0, seconds)))
    changes.write(session)


def tally_expired(session: Session) -> None:
    """Count an attempt whose worker stopped answering."""
    changes = Amounts()
    changes.add(Key(TallyName.EXPIRED), 1)
    changes.write(session)


def read_tallies(session: Session) -> dict[Key, tuple[int, int]]:
    """Count and amount of every key, in one statement."""
    return _by_key(
        session.execute(
            select(
                Tally.name, Tally.label, Tally.status, func.sum(Tally.count), func.sum(Tally.amount)
            ).group_by(Tally.name, Tally.label, Tally.status)
        )
    )


def fold(session: Session) -> int:
    """Replace rows by one a key, where there are many; how many rows are gone.

    Readers see the rows before or the sums after, never both. Two who fold at once take different rows.
    """
    if session.execute(select(func.count()).select_from(Tally)).scalar_one() <= FOLD_ROWS:
        return 0
    taken = select(Tally.id).order_by(Tally.id).limit(_MOST_FOLDED).with_for_update(skip_locked=True)
    rows = session.execute(
        delete(Tally)
        .where(Tally.id.in_(taken))
        .returning(Tally.name, Tally.label, Tally.status, Tally.count, Tally.amount)
        .execution_options(synchronize_session=False)
    ).all()
    sums = Amounts()
    for name, label, status, count, amount in rows:
        sums.add(Key(TallyName(name), label, status), count, amount)
    sums.write(session)
    return len(rows)


def repair(session: Session) -> dict[Key, tuple[int, int]]:
    """Append what the tables say and the tallies do not; what was wrong.

    Only a process of a version before the tallies leaves them wrong. Counters are raised and never lowered: a run that
    was tried again has ended twice, which its row does not remember. The session must be a writing one, and fresh.
    """
    if session.get_bind().dialect.name != "sqlite":
        # Two who repair at once would both append what is missing. The comparison is a statement of its own, so its
        # snapshot is taken after the lock.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _REPAIR_LOCK})
    changes = Amounts()
    for key, (count, amount) in differences(session).items():
        changes.add(key, count, amount)
    changes.write(session)
    if changes.counts:
        logger.warning("tallies.repaired keys=%s", len(changes.counts))
    return {key: (count, changes.amounts[key]) for key, count in changes.counts.items()}


def differences(session: Session) -> dict[Key, tuple[int, int]]:
    """What the tables have beyond the tallies, in one snapshot; reads whole tables."""
    statement = _TRUTH.format(waited=_WAITED[session.get_bind().dialect.name])
    found = _by_key(session.execute(text(statement)))
    return {
        key: (count, amount) if key.name is TallyName.RUNS else (count, max(0, amount))
        for key, (count, amount) in found.items()
        if (count if key.name is TallyName.RUNS else count > 0)
    }


def _by_key(rows: Iterable[Any]) -> dict[Key, tuple[int, int]]:
    # PostgreSQL sums big integers to a decimal.
    return {Key(TallyName(row[0]), row[1], row[2]): (int(row[3]), int(row[4])) for row in rows}


def _microseconds(seconds: float) -> int:
    return round(seconds * MICROSECONDS)


_TRUTH = """
    SELECT name, label, status, sum(count), sum(amount) FROM (
        SELECT 'runs' AS name, learner_kind AS label, status, count(*) AS count, 0 AS amount
        FROM runs GROUP BY learner_kind, status
        UNION ALL
        SELECT 'runs_ended', learner_kind, status, count(*), 0
        FROM runs WHERE status NOT IN ('queued', 'running', 'cancelling') GROUP BY learner_kind, status
        UNION ALL
        SELECT 'run_seconds', learner_kind, '', count(*), sum(CAST(round(seconds * 1000000) AS BIGINT))
        FROM reports JOIN runs ON runs.id = reports.run_id GROUP BY learner_kind
        UNION ALL
        SELECT 'run_steps', learner_kind, '', count(*), sum(steps)
        FROM reports JOIN runs ON runs.id = reports.run_id GROUP BY learner_kind
        UNION ALL
        SELECT 'run_megaflops', learner_kind, '', count(*), sum(CAST(round(flops / 1000000.0) AS BIGINT))
        FROM reports JOIN runs ON runs.id = reports.run_id
        WHERE flops IS NOT NULL GROUP BY learner_kind
        UNION ALL
        SELECT 'solve_seconds', learner_kind, '', count(*), sum(CAST(round(solve_seconds * 1000000) AS BIGINT))
        FROM reports JOIN runs ON runs.id = reports.run_id
        WHERE solve_seconds IS NOT NULL GROUP BY learner_kind
        UNION ALL
        SELECT 'queue_wait', queue, '', count(*), sum(CAST(round({waited} * 1000000) AS BIGINT))
        FROM packs WHERE started_at IS NOT NULL GROUP BY queue
        UNION ALL
        SELECT 'expired', '', '', count(*), 0 FROM attempts WHERE outcome = 'expired'
        UNION ALL
        SELECT name, label, status, -count, -amount FROM tallies
    ) AS compared
    GROUP BY name, label, status
"""

_WAITED = {
    "sqlite": "(julianday(started_at) - julianday(created_at)) * 86400.0",
    "postgresql": "extract(epoch FROM started_at - created_at)",
}
