"""A preset's expectations on what the database holds of it."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from bfc_core.reproductions.preset import Finding, Reproduction, Trained
from bfc_core.specs import Measurement as MeasurementSpec
from bfc_core.specs import Metrics, RunSpec
from bfc_core.statistics.aggregation import Row
from service.errors import ReproductionNotStartedError
from service.models import Experiment, ExperimentRun, Measurement, Report, Run
from service.reproductions.schemas import CheckedExperiment, FindingRead, ReproductionCheck


def read_check(session: Session, preset: Reproduction) -> ReproductionCheck:
    """Check the newest experiment of every role, found by the hash of its spec.

    Raises:
        ReproductionNotStartedError: a role has no experiment.
    """
    newest = {
        role: session.scalars(
            select(Experiment)
            .where(Experiment.spec_hash == spec.content_hash())
            .order_by(Experiment.created_at.desc(), Experiment.id.desc())
            .limit(1)
        ).first()
        for role, spec in preset.experiments.items()
    }
    found = {role: experiment for role, experiment in newest.items() if experiment is not None}
    if len(found) < len(newest):
        raise ReproductionNotStartedError(preset.name)
    evidence = {role: _trained(session, experiment) for role, experiment in found.items()}
    findings = preset.check(evidence)
    finished = all(experiment.status.is_terminal for experiment in found.values())
    passed = all(finding.holds for finding in findings)
    return ReproductionCheck(
        name=preset.name,
        verdict="unfinished" if not finished else "passed" if passed else "failed",
        shows=preset.shows,
        findings=[_finding(finding) for finding in findings],
        experiments={
            role: CheckedExperiment(id=experiment.id, status=experiment.status)
            for role, experiment in found.items()
        },
    )


def _trained(session: Session, experiment: Experiment) -> list[Trained]:
    rows = session.execute(
        select(Run.id, Run.spec, Run.status, Report.metrics, Report.seconds)
        .join(ExperimentRun, ExperimentRun.run_id == Run.id)
        .outerjoin(Report, Report.run_id == Run.id)
        .where(ExperimentRun.experiment_id == experiment.id)
        .order_by(ExperimentRun.position)
    ).all()
    measured = session.scalars(
        select(Measurement)
        .join(ExperimentRun, ExperimentRun.run_id == Measurement.run_id)
        .where(ExperimentRun.experiment_id == experiment.id, Measurement.name == "feature_error")
        .order_by(Measurement.step, Measurement.id)
    ).all()
    by_run: dict[object, list[MeasurementSpec]] = {}
    for each in measured:
        by_run.setdefault(each.run_id, []).append(
            MeasurementSpec(
                name=each.name, step=each.step, stage=each.stage, level=each.level, value=each.value
            )
        )
    return [
        Trained(
            Row(
                spec=RunSpec.model_validate(row.spec),
                status=row.status.value,
                metrics=None if row.metrics is None else Metrics.model_validate(row.metrics),
                seconds=row.seconds,
            ),
            by_run.get(row.id, ()),
        )
        for row in rows
    ]


def _finding(finding: Finding) -> FindingRead:
    return FindingRead(
        sentence=finding.sentence,
        low=finding.low,
        high=finding.high,
        expected=finding.expected,
        found=finding.found,
        holds=finding.holds,
    )
