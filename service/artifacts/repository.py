"""Reading artifacts. Only those of an attempt whose report was stored are seen."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from service.artifacts.schemas import ArtifactRead
from service.auth import Principal
from service.errors import ArtifactNotFoundError, NotTheOwnerError
from service.models import Artifact, Experiment, ExperimentRun, Scope
from service.runs.repository import owner_of


def list_artifacts(session: Session, run_id: UUID, retention: timedelta) -> list[ArtifactRead]:
    """Artifacts of a run by name."""
    rows = session.scalars(_published(run_id).order_by(Artifact.name, Artifact.fence))
    return [
        ArtifactRead(
            run_id=row.run_id,
            name=row.name,
            media_type=row.media_type,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            created_at=row.created_at,
            expires_at=row.created_at + retention,
            path=f"/v1/runs/{row.run_id}/artifacts/{row.name}",
        )
        for row in rows
    ]


def get_artifact(session: Session, run_id: UUID, name: str) -> Artifact:
    """One artifact by its name, which is compared and never becomes a path.

    Raises:
        ArtifactNotFoundError: the run has none of this name.
    """
    found = session.scalars(
        _published(run_id).where(Artifact.name == name).order_by(Artifact.fence.desc()).limit(1)
    ).first()
    if found is None:
        raise ArtifactNotFoundError(run_id, name)
    return found


def check_may_read(session: Session, run_id: UUID, principal: Principal) -> None:
    """Raise unless an experiment of the principal's asked for the run.

    Raises:
        RunNotFoundError: there is none of this id.
        NotTheOwnerError: only others asked for it.
    """
    owner = owner_of(session, run_id)
    if principal.may(Scope.ADMIN) or owner == principal.owner:
        return
    # A cell that is asked for again is linked, not trained again: the run is theirs as well.
    asked = session.scalar(
        select(ExperimentRun.run_id)
        .join(Experiment, Experiment.id == ExperimentRun.experiment_id)
        .where(ExperimentRun.run_id == run_id, Experiment.owner == principal.owner)
        .limit(1)
    )
    if asked is None:
        raise NotTheOwnerError


def _published(run_id: UUID) -> Select[Artifact]:
    return select(Artifact).where(Artifact.run_id == run_id, Artifact.published_at.is_not(None))
