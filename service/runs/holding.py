"""Taking the rows that a change needs, in the one order: packs by id, then the experiment.

While a row is waited for, somebody may split a pack or give a run a fresh one. What appears meanwhile is taken as well:
a pause would let it run, a resume would leave it behind, and a cancel would meet its claim in the wrong order.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from service.models import Experiment, Pack, Run

_PACKS_A_STATEMENT = 1000


def held(
    session: Session, experiment_id: UUID, *which: ColumnElement[bool]
) -> tuple[Sequence[Pack], Experiment]:
    """Hold an experiment, and before it every pack that fits ``which``.

    Raises:
        NoResultFound: there is no such experiment.
    """
    packs = {pack.id: pack for pack in _held_packs(session, *which)}
    while True:
        attempt = session.begin_nested()
        experiment = _held_experiment(session, experiment_id)
        missed = sorted(set(session.scalars(select(Pack.id).where(*which))) - packs.keys())
        if not missed:
            attempt.commit()
            return list(packs.values()), experiment
        # Whoever holds a pack may wait for the experiment: give it back before the pack is asked for.
        attempt.rollback()
        some = Pack.id.in_(missed[:_PACKS_A_STATEMENT])
        packs |= {pack.id: pack for pack in _held_packs(session, *which, some)}


def held_run(session: Session, run_id: UUID) -> tuple[Run, Pack]:
    """Read a run whose pack is held.

    Raises:
        NoResultFound: there is no such run.
    """
    while True:
        run = session.get_one(Run, run_id, populate_existing=True)
        (pack,) = _held_packs(session, Pack.id == run.pack_id)
        session.refresh(run)
        if run.pack_id == pack.id:
            return run, pack


def _held_packs(session: Session, *which: ColumnElement[bool]) -> Sequence[Pack]:
    return session.scalars(
        select(Pack)
        .where(*which)
        .order_by(Pack.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()


def _held_experiment(session: Session, experiment_id: UUID) -> Experiment:
    return session.execute(
        select(Experiment)
        .where(Experiment.id == experiment_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).scalar_one()
