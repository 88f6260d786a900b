"""The nine tables, and the two rules that no constraint can state.

`updated_at` follows every change, bulk updates included; a clip belongs to a root moment, and to its video.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# clock_timestamp() and not now(): two changes in one transaction are two changes.
TOUCH = """
CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$
"""
TOUCHED = ("moments", "pipeline_requests")

# FOR SHARE: the moment can't become a refined one before the clip is committed.
CLIP_OF_ROOT = """
CREATE FUNCTION clip_of_root_moment() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment record;
BEGIN
    SELECT is_refined, video_id INTO moment FROM moments WHERE id = NEW.moment_id FOR SHARE;
    IF FOUND AND (moment.is_refined OR moment.video_id <> NEW.video_id) THEN
        RAISE EXCEPTION 'moment % is refined or of another video: it can''t have this clip', NEW.moment_id
            USING ERRCODE = 'check_violation', TABLE = 'clips', CONSTRAINT = 'clip_of_root_moment';
    END IF;
    RETURN NEW;
END $$
"""
ROOT_WITH_CLIP = """
CREATE FUNCTION root_moment_with_clip() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM clips WHERE moment_id = NEW.id) THEN
        RAISE EXCEPTION 'moment % has a clip: it stays a root moment of its video', NEW.id
            USING ERRCODE = 'check_violation', TABLE = 'moments', CONSTRAINT = 'root_moment_with_clip';
    END IF;
    RETURN NEW;
END $$
"""
TRIGGERS = (
    *(
        f"CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table} FOR EACH ROW "
        "WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION touch_updated_at()"
        for table in TOUCHED
    ),
    "CREATE TRIGGER clip_of_root_moment BEFORE INSERT OR UPDATE OF moment_id, video_id ON clips "
    "FOR EACH ROW EXECUTE FUNCTION clip_of_root_moment()",
    "CREATE TRIGGER root_moment_with_clip BEFORE UPDATE OF is_refined, video_id ON moments FOR EACH ROW "
    "WHEN (NEW.is_refined AND NOT OLD.is_refined OR NEW.video_id <> OLD.video_id) "
    "EXECUTE FUNCTION root_moment_with_clip()",
)
FUNCTIONS = ("touch_updated_at", "clip_of_root_moment", "root_moment_with_clip")


def upgrade() -> None:
    op.create_table(
        "pipeline_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("video_identifier", sa.String(length=255), nullable=False),
        sa.Column("source_url", sa.Text(), nullable=True),
        sa.Column("pipeline_type", sa.String(length=50), nullable=False),
        sa.Column(
            "config", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'launched', 'finished', 'rejected')", name=op.f("ck_pipeline_requests_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_requests")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_pipeline_requests_idempotency_key")),
        sa.UniqueConstraint("request_id", name=op.f("uq_pipeline_requests_request_id")),
    )
    op.create_index(
        "ix_pipeline_requests_video_identifier_requested_at",
        "pipeline_requests",
        ["video_identifier", sa.literal_column("requested_at DESC")],
        unique=False,
    )
    op.create_table(
        "prompts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_prompt", sa.Text(), nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=False),
        sa.Column("prompt_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
        sa.UniqueConstraint("prompt_hash", name=op.f("uq_prompts_prompt_hash")),
    )
    op.create_table(
        "videos",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("identifier", sa.String(length=255), nullable=False),
        sa.Column("source_url", sa.Text(), nullable=True),
        sa.Column("cloud_url", sa.Text(), nullable=False),
        sa.Column("title", sa.String(length=500), nullable=True),
        sa.Column("duration_seconds", sa.Double(), nullable=True),
        sa.Column("file_size_kb", sa.BigInteger(), nullable=True),
        sa.Column("video_codec", sa.String(length=50), nullable=True),
        sa.Column("audio_codec", sa.String(length=50), nullable=True),
        sa.Column("resolution", sa.String(length=20), nullable=True),
        sa.Column("frame_rate", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_videos")),
        sa.UniqueConstraint("identifier", name=op.f("uq_videos_identifier")),
    )
    op.create_index(op.f("ix_videos_created_at"), "videos", ["created_at"], unique=False)
    op.create_index(op.f("ix_videos_source_url"), "videos", ["source_url"], unique=False, postgresql_using="hash")
    op.create_table(
        "transcripts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("video_id", sa.Integer(), nullable=False),
        sa.Column("full_text", sa.Text(), nullable=False),
        sa.Column("word_timestamps", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("segment_timestamps", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("language", sa.String(length=10), server_default="en", nullable=True),
        sa.Column("number_of_words", sa.Integer(), nullable=True),
        sa.Column("number_of_segments", sa.Integer(), nullable=True),
        sa.Column("transcription_service", sa.String(length=50), nullable=True),
        sa.Column("processing_time_seconds", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_transcripts_video_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transcripts")),
        sa.UniqueConstraint("video_id", name=op.f("uq_transcripts_video_id")),
    )
    op.create_index(
        "ix_transcripts_full_text_search",
        "transcripts",
        [sa.literal_column("to_tsvector('english', full_text)")],
        unique=False,
        postgresql_using="gin",
    )
    op.create_table(
        "generation_configs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column("transcript_id", sa.Integer(), nullable=True),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("operation_type", sa.String(length=50), nullable=False),
        sa.Column("temperature", sa.Double(), nullable=True),
        sa.Column("top_p", sa.Double(), nullable=True),
        sa.Column("top_k", sa.Integer(), nullable=True),
        sa.Column("min_moment_length", sa.Double(), nullable=True),
        sa.Column("max_moment_length", sa.Double(), nullable=True),
        sa.Column("min_moments", sa.Integer(), nullable=True),
        sa.Column("max_moments", sa.Integer(), nullable=True),
        sa.Column("config_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["prompt_id"], ["prompts.id"], name=op.f("fk_generation_configs_prompt_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["transcript_id"], ["transcripts.id"], name=op.f("fk_generation_configs_transcript_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generation_configs")),
        sa.UniqueConstraint("config_hash", name=op.f("uq_generation_configs_config_hash")),
    )
    op.create_table(
        "moments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("identifier", sa.String(length=20), nullable=False),
        sa.Column("video_id", sa.Integer(), nullable=False),
        sa.Column("start_time", sa.Double(), nullable=False),
        sa.Column("end_time", sa.Double(), nullable=False),
        sa.Column("title", sa.String(length=500), nullable=False),
        sa.Column("is_refined", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("generation_model", sa.String(length=100), nullable=True),
        sa.Column("generation_config_id", sa.Integer(), nullable=True),
        sa.Column("score", sa.Integer(), nullable=True),
        sa.Column("scoring_model", sa.String(length=100), nullable=True),
        sa.Column("scored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("edited_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("end_time > start_time", name=op.f("ck_moments_ends_after_start")),
        sa.CheckConstraint("parent_id IS NULL OR is_refined", name=op.f("ck_moments_parent_only_of_refined")),
        sa.CheckConstraint("score BETWEEN 0 AND 10", name=op.f("ck_moments_score_range")),
        sa.CheckConstraint("start_time >= 0", name=op.f("ck_moments_starts_in_video")),
        sa.ForeignKeyConstraint(
            ["generation_config_id"],
            ["generation_configs.id"],
            name=op.f("fk_moments_generation_config_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["moments.id"], name=op.f("fk_moments_parent_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_moments_video_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moments")),
        sa.UniqueConstraint("identifier", name=op.f("uq_moments_identifier")),
    )
    op.create_index(op.f("ix_moments_generation_config_id"), "moments", ["generation_config_id"], unique=False)
    op.create_index(op.f("ix_moments_parent_id"), "moments", ["parent_id"], unique=False)
    op.create_index(op.f("ix_moments_video_id_start_time"), "moments", ["video_id", "start_time"], unique=False)
    op.create_table(
        "pipeline_history",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("identifier", sa.String(length=100), nullable=False),
        sa.Column("video_id", sa.Integer(), nullable=True),
        sa.Column("generation_config_id", sa.Integer(), nullable=True),
        sa.Column("pipeline_type", sa.String(length=50), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_seconds", sa.Double(), nullable=True),
        sa.Column("total_moments_generated", sa.Integer(), nullable=True),
        sa.Column("total_clips_created", sa.Integer(), nullable=True),
        sa.Column("error_stage", sa.String(length=50), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "status IN ('running', 'completed', 'failed', 'partial', 'cancelled')",
            name=op.f("ck_pipeline_history_status"),
        ),
        sa.ForeignKeyConstraint(
            ["generation_config_id"],
            ["generation_configs.id"],
            name=op.f("fk_pipeline_history_generation_config_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["video_id"], ["videos.id"], name=op.f("fk_pipeline_history_video_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_history")),
        sa.UniqueConstraint("identifier", name=op.f("uq_pipeline_history_identifier")),
    )
    op.create_index(
        "ix_pipeline_history_video_id_started_at",
        "pipeline_history",
        ["video_id", sa.literal_column("started_at DESC")],
        unique=False,
    )
    op.create_table(
        "clips",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("moment_id", sa.Integer(), nullable=False),
        sa.Column("video_id", sa.Integer(), nullable=False),
        sa.Column("cloud_url", sa.Text(), nullable=False),
        sa.Column("start_time", sa.Double(), nullable=False),
        sa.Column("end_time", sa.Double(), nullable=False),
        sa.Column("padding_left", sa.Double(), nullable=True),
        sa.Column("padding_right", sa.Double(), nullable=True),
        sa.Column("file_size_kb", sa.BigInteger(), nullable=True),
        sa.Column("format", sa.String(length=20), nullable=True),
        sa.Column("video_codec", sa.String(length=50), nullable=True),
        sa.Column("audio_codec", sa.String(length=50), nullable=True),
        sa.Column("resolution", sa.String(length=20), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("end_time > start_time", name=op.f("ck_clips_ends_after_start")),
        sa.ForeignKeyConstraint(["moment_id"], ["moments.id"], name=op.f("fk_clips_moment_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_clips_video_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clips")),
        sa.UniqueConstraint("moment_id", name=op.f("uq_clips_moment_id")),
    )
    op.create_index(op.f("ix_clips_video_id"), "clips", ["video_id"], unique=False)
    op.create_table(
        "thumbnails",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("video_id", sa.Integer(), nullable=True),
        sa.Column("clip_id", sa.Integer(), nullable=True),
        sa.Column("cloud_url", sa.Text(), nullable=False),
        sa.Column("file_size_kb", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("num_nonnulls(video_id, clip_id) = 1", name=op.f("ck_thumbnails_one_owner")),
        sa.ForeignKeyConstraint(["clip_id"], ["clips.id"], name=op.f("fk_thumbnails_clip_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_thumbnails_video_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thumbnails")),
    )
    op.create_index(
        "uq_thumbnails_clip_id", "thumbnails", ["clip_id"], unique=True, postgresql_where=sa.text("clip_id IS NOT NULL")
    )
    op.create_index(
        "uq_thumbnails_video_id",
        "thumbnails",
        ["video_id"],
        unique=True,
        postgresql_where=sa.text("video_id IS NOT NULL"),
    )
    for statement in (TOUCH, CLIP_OF_ROOT, ROOT_WITH_CLIP, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    # indexes and triggers go with their tables
    op.drop_table("thumbnails")
    op.drop_table("clips")
    op.drop_table("pipeline_history")
    op.drop_table("moments")
    op.drop_table("generation_configs")
    op.drop_table("transcripts")
    op.drop_table("videos")
    op.drop_table("prompts")
    op.drop_table("pipeline_requests")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}()")
