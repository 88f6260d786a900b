"""What operation asks for: who wants to cancel, the queue's order, and pages of all runs and of the failed ones."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("pipeline_requests", sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_pipeline_requests_queued",
        "pipeline_requests",
        ["requested_at", "id"],
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index("ix_pipeline_history_started_at", "pipeline_history", ["started_at", "identifier"])
    op.create_index(
        "ix_pipeline_history_failed",
        "pipeline_history",
        ["started_at", "identifier"],
        postgresql_where=sa.text("status IN ('failed', 'partial')"),
    )
    op.create_index(
        "ix_pipeline_history_without_video",
        "pipeline_history",
        [sa.text("split_part(identifier, ':', 2)"), "started_at"],
        postgresql_where=sa.text("video_id IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_pipeline_history_without_video", "pipeline_history")
    op.drop_index("ix_pipeline_history_failed", "pipeline_history")
    op.drop_index("ix_pipeline_history_started_at", "pipeline_history")
    op.drop_index("ix_pipeline_requests_queued", "pipeline_requests")
    op.drop_column("pipeline_requests", "cancel_requested_at")
