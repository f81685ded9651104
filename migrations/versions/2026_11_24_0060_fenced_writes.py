"""Workers count the times that they found a claim of theirs over.

Revision: 0060
Follows: 0050
"""

import sqlalchemy as sa
from alembic import op

revision = "0060"
down_revision = "0050"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("fenced_writes", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("workers", "fenced_writes")
