"""An index of the requests that have not ended: they are looked for every half minute, and stay few among the many."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_pipeline_requests_active",
        "pipeline_requests",
        ["updated_at"],
        postgresql_where=sa.text("state IN ('queued', 'launched')"),
    )


def downgrade() -> None:
    op.drop_index("ix_pipeline_requests_active", "pipeline_requests")
