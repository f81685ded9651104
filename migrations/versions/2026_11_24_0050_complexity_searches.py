"""Searches for n*.

Revision: 0050
Follows: 0040
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0050"
down_revision = "0040"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "complexity_searches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_complexity_searches")),
    )
    op.create_index(
        op.f("ix_complexity_searches_status_created_at_id"),
        "complexity_searches",
        ["status", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "complexity_rounds",
        sa.Column("search_id", sa.Uuid(), nullable=False),
        sa.Column("experiment_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("learner", sa.Integer(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id"],
            ["complexity_searches.id"],
            name=op.f("fk_complexity_rounds_search_id_complexity_searches"),
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.id"],
            name=op.f("fk_complexity_rounds_experiment_id_experiments"),
        ),
        sa.PrimaryKeyConstraint("search_id", "experiment_id", name=op.f("pk_complexity_rounds")),
    )
    op.create_index(
        op.f("ix_complexity_rounds_experiment_id"), "complexity_rounds", ["experiment_id"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_complexity_rounds_experiment_id"), table_name="complexity_rounds")
    op.drop_table("complexity_rounds")
    op.drop_index(op.f("ix_complexity_searches_status_created_at_id"), table_name="complexity_searches")
    op.drop_table("complexity_searches")
