"""Experiments keep the counts of their runs, /metrics its own; indexes for what is begun and what waits.

Revision: 0100
Follows: 0090
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0100"
down_revision = "0090"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

WAITED = {
    "sqlite": "(julianday(started_at) - julianday(created_at)) * 86400.0",
    "postgresql": "extract(epoch FROM started_at - created_at)",
}
COUNTS = {"sqlite": "json_group_object(status, runs)", "postgresql": "jsonb_object_agg(status, runs)"}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    op.add_column("experiments", sa.Column("runs_by_status", JSON, nullable=True))
    op.add_column("experiments", sa.Column("reused_runs", sa.Integer(), nullable=True))
    op.add_column("experiments", sa.Column("counted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        op.f("ix_experiments_finished_at_counted_at"),
        "experiments",
        ["finished_at", "counted_at"],
        unique=False,
    )
    op.execute(
        f"""
        UPDATE experiments SET runs_by_status = (
            SELECT {COUNTS[dialect]} FROM (
                SELECT runs.status AS status, count(*) AS runs
                FROM experiment_runs JOIN runs ON runs.id = experiment_runs.run_id
                WHERE experiment_runs.experiment_id = experiments.id GROUP BY runs.status
            ) AS counted
        )
        """  # noqa: S608 - two constants
    )
    op.execute(
        """
        UPDATE experiments SET reused_runs = (
            SELECT count(*) FROM experiment_runs JOIN runs ON runs.id = experiment_runs.run_id
            WHERE experiment_runs.experiment_id = experiments.id AND runs.experiment_id <> experiments.id
        )
        """
    )
    _index_packs()
    op.create_table(
        "tallies",
        sa.Column("id", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tallies")),
        sqlite_autoincrement=True,
    )
    _fill_tallies(WAITED[dialect])


def downgrade() -> None:
    op.drop_table("tallies")
    op.drop_index("ix_packs_begun", table_name="packs")
    op.drop_index("ix_packs_waiting", table_name="packs")
    op.create_index(
        op.f("ix_packs_status_queue_priority_id"),
        "packs",
        ["status", "queue", "priority", "id"],
        unique=False,
    )
    op.drop_index(op.f("ix_experiments_finished_at_counted_at"), table_name="experiments")
    op.drop_column("experiments", "counted_at")
    op.drop_column("experiments", "reused_runs")
    op.drop_column("experiments", "runs_by_status")


def _index_packs() -> None:
    begun = sa.text("started_at IS NOT NULL AND finished_at IS NULL")
    op.create_index("ix_packs_begun", "packs", ["experiment_id"], postgresql_where=begun, sqlite_where=begun)
    waiting = sa.text("status = 'queued' AND held_at IS NULL")
    op.create_index(
        "ix_packs_waiting",
        "packs",
        ["queue", sa.text("priority DESC"), "id", "run_after", "estimated_seconds"],
        postgresql_where=waiting,
        sqlite_where=waiting,
    )
    # It was of no use: claims go by falling priority and growing id, and read all that waited to sort it.
    op.drop_index(op.f("ix_packs_status_queue_priority_id"), table_name="packs")


def _fill_tallies(waited: str) -> None:
    micro = "coalesce(sum(CAST(round({} * 1000000) AS BIGINT)), 0)"
    reports = "FROM reports JOIN runs ON runs.id = reports.run_id"
    ended = "status NOT IN ('queued', 'running', 'cancelling')"
    for counted, group in (
        ("'runs', learner_kind, status, count(*), 0 FROM runs", "learner_kind, status"),
        (f"'runs_ended', learner_kind, status, count(*), 0 FROM runs WHERE {ended}", "learner_kind, status"),
        (f"'run_seconds', learner_kind, '', count(*), {micro.format('seconds')} {reports}", "learner_kind"),
        (f"'run_steps', learner_kind, '', count(*), sum(steps) {reports}", "learner_kind"),
        (
            f"'solve_seconds', learner_kind, '', count(solve_seconds), {micro.format('solve_seconds')} {reports}",
            "learner_kind",
        ),
        (
            f"'queue_wait', queue, '', count(started_at), {micro.format(waited)} FROM packs",
            "queue",
        ),
        ("'expired', '', '', count(*), 0 FROM attempts WHERE outcome = 'expired'", "outcome"),
    ):
        op.execute(
            f"INSERT INTO tallies (name, label, status, count, amount) SELECT {counted} GROUP BY {group}"
        )
