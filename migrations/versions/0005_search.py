"""What search stands on: passages of transcripts, and indexes on the words of titles and on parts of them."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.passages import cut
from videomoments_dagster.errors import InvalidConfig

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BATCH = 20  # transcripts in memory at once: one of ten hours is some ten megabytes


def upgrade() -> None:
    _create_trigrams()
    passages = op.create_table(
        "transcript_passages",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("transcript_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("start_time", sa.Double(), nullable=False),
        sa.Column("end_time", sa.Double(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("word_starts_ms", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column(
            "search",
            postgresql.TSVECTOR(),
            sa.Computed("to_tsvector('english'::regconfig, text)", persisted=True),
            nullable=True,
        ),
        sa.ForeignKeyConstraint(
            ["transcript_id"],
            ["transcripts.id"],
            name=op.f("fk_transcript_passages_transcript_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transcript_passages")),
        sa.UniqueConstraint("transcript_id", "number", name=op.f("uq_transcript_passages_transcript_id_number")),
    )
    _backfill(passages)
    op.create_index(
        "ix_transcript_passages_search",
        "transcript_passages",
        ["search"],
        postgresql_using="gin",
        # a list of pending entries would be read word by word by every search until the next vacuum
        postgresql_with={"fastupdate": "off"},
    )
    op.create_index(
        "ix_moments_title_search",
        "moments",
        [sa.text("to_tsvector('english', title)")],
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )
    op.create_index(
        "ix_videos_title_identifier_trigrams",
        "videos",
        ["title", "identifier"],
        postgresql_using="gin",
        postgresql_ops={"title": "gin_trgm_ops", "identifier": "gin_trgm_ops"},
    )


def downgrade() -> None:
    op.drop_index("ix_videos_title_identifier_trigrams", "videos")
    op.drop_index("ix_moments_title_search", "moments")
    op.drop_table("transcript_passages")
    # somebody else's objects in this database may need it, and it may be somebody else's
    op.execute(
        "DO $$ BEGIN DROP EXTENSION IF EXISTS pg_trgm; "
        "EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL; END $$"
    )


def _create_trigrams() -> None:
    """pg_trgm is trusted: whoever may create in the database may create it. Raises InvalidConfig where it is not
    installed."""
    connection = op.get_bind()
    if not connection.scalar(sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")):
        raise InvalidConfig(
            "The PostgreSQL server lacks the extension pg_trgm, which searching in titles needs.",
            hint="Install PostgreSQL's contrib modules on it (package postgresql-contrib), and upgrade again.",
        )
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")


def _backfill(passages: sa.Table) -> None:
    connection = op.get_bind()
    transcripts = sa.table(
        "transcripts",
        sa.column("id", sa.Integer()),
        sa.column("full_text", sa.Text()),
        sa.column("word_timestamps", postgresql.JSONB()),
        sa.column("segment_timestamps", postgresql.JSONB()),
    )
    last = 0
    while True:
        rows = connection.execute(
            sa.select(transcripts).where(transcripts.c.id > last).order_by(transcripts.c.id).limit(_BATCH)
        ).all()
        if not rows:
            return
        last = rows[-1].id
        made: list[dict[str, Any]] = [
            {
                "transcript_id": row.id,
                "number": passage.number,
                "start_time": passage.start_time,
                "end_time": passage.end_time,
                "text": passage.text,
                "word_starts_ms": passage.word_starts_ms,
            }
            for row in rows
            for passage in cut(row.word_timestamps, row.segment_timestamps, row.full_text)
        ]
        if made:
            connection.execute(passages.insert(), made)
