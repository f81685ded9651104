"""Searches for n* remember the key that asked: its quotas hold for every round.

Revision: 0085
Follows: 0080
"""

import sqlalchemy as sa
from alembic import op

revision = "0085"
down_revision = "0080"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("complexity_searches", sa.Column("api_key_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    # The version before knows no paused searches: what is paused is cancelled.
    op.execute("UPDATE complexity_searches SET status = 'cancelled' WHERE status = 'paused'")
    op.drop_column("complexity_searches", "api_key_id")
