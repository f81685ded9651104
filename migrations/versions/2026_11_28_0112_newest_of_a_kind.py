"""The newest runs of a kind, whose costs correct estimates, are found by an index.

Revision: 0112
Follows: 0111
"""

import sqlalchemy as sa
from alembic import op

revision = "0112"
down_revision = "0111"
branch_labels = None
depends_on = None

SUCCEEDED = sa.text("status = 'succeeded'")


def upgrade() -> None:
    op.create_index(
        "ix_runs_newest",
        "runs",
        ["learner_kind", "finished_at", "id"],
        postgresql_where=SUCCEEDED,
        sqlite_where=SUCCEEDED,
    )


def downgrade() -> None:
    op.drop_index("ix_runs_newest", "runs")
