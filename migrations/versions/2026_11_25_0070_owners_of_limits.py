"""Packs carry the crash limit of their worker, workers show their limits, kernel machines time their solve.

Revision: 0070
Follows: 0060
"""

import sqlalchemy as sa
from alembic import op

revision = "0070"
down_revision = "0060"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("packs", sa.Column("crash_limit", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("kernel_memory_limit_bytes", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("heartbeat_seconds", sa.Double(), nullable=True))
    op.add_column("reports", sa.Column("solve_seconds", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("reports", "solve_seconds")
    op.drop_column("workers", "heartbeat_seconds")
    op.drop_column("workers", "kernel_memory_limit_bytes")
    op.drop_column("packs", "crash_limit")
