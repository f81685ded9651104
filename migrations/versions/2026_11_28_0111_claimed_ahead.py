"""Packs say that their owner has claimed them ahead of their turn and not begun.

Revision: 0111
Follows: 0110
"""

import sqlalchemy as sa
from alembic import op

revision = "0111"
down_revision = "0110"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "packs", sa.Column("claimed_ahead", sa.Boolean(), server_default=sa.false(), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("packs", "claimed_ahead")
