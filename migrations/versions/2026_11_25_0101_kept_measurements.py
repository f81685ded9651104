"""Runs say since when their measurements are gone.

Revision: 0101
Follows: 0100
"""

import sqlalchemy as sa
from alembic import op

revision = "0101"
down_revision = "0100"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("measurements_deleted_at", sa.DateTime(timezone=True), nullable=True))
    kept = sa.text("measurements_deleted_at IS NULL")
    op.create_index("ix_runs_measured", "runs", ["finished_at"], postgresql_where=kept, sqlite_where=kept)


def downgrade() -> None:
    op.drop_index("ix_runs_measured", table_name="runs")
    op.drop_column("runs", "measurements_deleted_at")
