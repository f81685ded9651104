"""Storing an experiment: once committed, it will be worked on whatever happens to the broker."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert
from sqlalchemy.orm import Session

from bfc_core.packing import Estimate, estimate_pack
from bfc_core.specs import ExperimentSpec, Recipe, RunSpec, label_of
from service.database import database_now
from service.models import Base, Experiment, ExperimentRun, ExperimentStatus, Pack, PackStatus, Run, RunStatus
from service.runs.cell import cell_hash, code_version
from service.runs.moves import Wakeup
from service.runs.settlement import settle_experiment
from service.runs.tallies import tally_accepted

_ROWS_A_STATEMENT = 2000
_LONGEST_LABEL = 200


def accept(
    session: Session,
    spec: ExperimentSpec,
    runs: Sequence[RunSpec],
    packs: Sequence[Sequence[RunSpec]],
    *,
    owner: str,
    queue: str,
    network_queue: str = "",
    republish_first: timedelta,
    priority: int = 0,
    estimates: Sequence[Estimate] | None = None,
    hashes: Sequence[str] | None = None,
    answers: Sequence[UUID | None] | None = None,
) -> tuple[Experiment, list[Wakeup]]:
    """Store an experiment with its runs, queued; the expensive packs first, so that none is left for last.

    Args:
        runs: ``spec.runs()``; its order is the order in which runs are listed.
        packs: the same objects, grouped; without those that have an answer.
        estimates: of every pack, where they are known already.
        hashes: the cell hash of every run, where it is known already.
        network_queue: where packs that train networks wait, if not in ``queue`` as well: what a GPU is for.
        answers: the finished run that answers a cell, or None; it is linked and not run again.
        republish_first: when the reconciler sends a wake-up if the one sent after the commit got lost.
    """
    now = database_now(session)
    experiment = Experiment(
        id=uuid4(),
        owner=owner,
        name=spec.name,
        status=ExperimentStatus.QUEUED,
        spec=spec.model_dump(mode="json"),
        spec_hash=spec.content_hash(),
        code_version=code_version(),
        run_count=len(runs),
        reused_runs=len(runs) - sum(len(pack) for pack in packs),
        created_at=now,
    )
    session.add(experiment)
    estimates = estimates or [estimate_pack(pack) for pack in packs]
    estimated = sorted(zip(estimates, packs, strict=True), key=lambda pair: -pair[0].seconds)
    rows = [
        Pack(
            experiment_id=experiment.id,
            queue=network_queue if network_queue and isinstance(pack[0].learner, Recipe) else queue,
            priority=priority,
            status=PackStatus.QUEUED,
            members=len(pack),
            estimated_seconds=estimate.seconds,
            estimated_memory_bytes=estimate.memory_bytes,
            run_after=now,
            publish_at=now + republish_first,
            created_at=now,
        )
        for estimate, pack in estimated
    ]
    session.add_all(rows)
    session.flush()
    position = {id(run): index for index, run in enumerate(runs)}
    linked = {} if answers is None else {place: run for place, run in enumerate(answers) if run is not None}
    ids = {id(run): uuid4() for pack in packs for run in pack}
    linked |= {position[run]: new_id for run, new_id in ids.items()}
    hash_of = (lambda place: cell_hash(runs[place])) if hashes is None else hashes.__getitem__
    _insert(
        session,
        Run,
        (
            _queued_run(experiment.id, row.id, member, ids[id(run)], run, hash_of(position[id(run)]), now)
            for row, (_, pack) in zip(rows, estimated, strict=True)
            for member, run in enumerate(pack)
        ),
    )
    _insert(
        session,
        ExperimentRun,
        (
            {"experiment_id": experiment.id, "run_id": run_id, "position": place}
            for place, run_id in linked.items()
        ),
    )
    tally_accepted(session, (run.learner.kind for pack in packs for run in pack))
    settle_experiment(session, now, experiment)
    session.flush()
    return experiment, [Wakeup(row.id, row.queue, row.priority) for row in rows]


def _queued_run(
    experiment_id: UUID, pack_id: int, member: int, run_id: UUID, run: RunSpec, cell: str, now: datetime
) -> dict[str, Any]:
    return {
        "id": run_id,
        "experiment_id": experiment_id,
        "pack_id": pack_id,
        "member": member,
        "cell_hash": cell,
        "spec": run.model_dump(mode="json"),
        # Of a sum of products of kernels it may be any length; PostgreSQL takes no more than the column has.
        "label": label_of(run.learner)[:_LONGEST_LABEL],
        "target_kind": run.target.kind,
        "learner_kind": run.learner.kind,
        "n": run.n,
        "dim": run.dim,
        "seed": run.seed,
        "status": RunStatus.QUEUED,
        "attempts": 0,
        "created_at": now,
    }


def _insert(session: Session, model: type[Base], rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows some thousands at a time: a grid of 10⁵ cells is never held as objects of the session."""
    table = Base.metadata.tables[model.__tablename__]
    remaining = iter(rows)
    while some := list(islice(remaining, _ROWS_A_STATEMENT)):
        session.connection().execute(insert(table), some)
