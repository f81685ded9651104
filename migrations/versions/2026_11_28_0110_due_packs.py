"""An index for the packs whose wake-up is due, in the order in which it is sent again.

Revision: 0110
Follows: 0101
"""

import sqlalchemy as sa
from alembic import op

revision = "0110"
down_revision = "0101"
branch_labels = None
depends_on = None


def upgrade() -> None:
    waiting = sa.text("status = 'queued' AND held_at IS NULL")
    op.create_index(
        "ix_packs_due",
        "packs",
        ["queue", "publish_at", "id"],
        postgresql_where=waiting,
        sqlite_where=waiting,
    )
    # With it, every tick of a reconciler read all packs that were due, and those of paused experiments.
    op.drop_index(op.f("ix_packs_status_publish_at"), table_name="packs")


def downgrade() -> None:
    op.create_index(op.f("ix_packs_status_publish_at"), "packs", ["status", "publish_at"], unique=False)
    op.drop_index("ix_packs_due", table_name="packs")
