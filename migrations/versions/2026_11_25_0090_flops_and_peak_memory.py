"""Reports have their floating-point operations, attempts their peak of memory and how many runs they executed.

Revision: 0090
Follows: 0085
"""

import sqlalchemy as sa
from alembic import op

revision = "0090"
down_revision = "0085"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What was reported before did not count: null, as the version before writes it while it still runs.
    op.add_column("reports", sa.Column("flops", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("members", sa.Integer(), nullable=True))
    op.add_column("attempts", sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("attempts", "peak_memory_bytes")
    op.drop_column("attempts", "members")
    op.drop_column("reports", "flops")
