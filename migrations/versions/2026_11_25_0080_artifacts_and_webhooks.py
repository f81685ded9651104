"""Files of runs are announced before they are uploaded; webhooks.

Revision: 0080
Follows: 0060
"""

import sqlalchemy as sa
from alembic import op

revision = "0080"
down_revision = "0070"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("artifacts", sa.Column("published_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(op.f("ix_artifacts_created_at"), "artifacts", ["created_at"], unique=False)
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("experiment_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_webhooks_experiment_id_experiments")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_experiment_id"), "webhooks", ["experiment_id"], unique=False)
    op.create_index(op.f("ix_webhooks_next_at"), "webhooks", ["next_at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_webhooks_next_at"), table_name="webhooks")
    op.drop_index(op.f("ix_webhooks_experiment_id"), table_name="webhooks")
    op.drop_table("webhooks")
    op.drop_index(op.f("ix_artifacts_created_at"), table_name="artifacts")
    op.drop_column("artifacts", "published_at")
