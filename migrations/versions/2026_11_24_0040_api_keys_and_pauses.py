"""API keys; experiments that are paused.

Revision: 0040
Follows: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0040"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("live_runs_limit", sa.Integer(), nullable=True),
        sa.Column("daily_seconds_limit", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_api_keys_secret_sha256")),
    )
    op.create_index(op.f("ix_api_keys_owner"), "api_keys", ["owner"], unique=False)
    op.add_column("experiments", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("packs", sa.Column("held_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    # The version before knows no pauses: what is paused goes on.
    op.execute("UPDATE experiments SET status = 'running' WHERE status = 'paused' AND started_at IS NOT NULL")
    op.execute("UPDATE experiments SET status = 'queued' WHERE status = 'paused'")
    op.drop_column("packs", "held_at")
    op.drop_column("experiments", "paused_at")
    op.drop_index(op.f("ix_api_keys_owner"), table_name="api_keys")
    op.drop_table("api_keys")
