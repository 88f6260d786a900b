"""The tables as SQLAlchemy models: columns, constraints and indexes, and nothing else.

Triggers (updated_at; clips of root moments only) are in the migration; queries are in db/queries. There are no
relationships: a query says what it joins, so nothing is loaded behind anyone's back.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    Double,
    FetchedValue,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Every constraint has a name made by one convention, so that migrations and error messages can use it."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {
        datetime: DateTime(timezone=True),
        float: Double(),
        str: Text(),
        dict[str, Any]: JSONB(),
        list[dict[str, Any]]: JSONB(),
    }
    __mapper_args__ = {"eager_defaults": True}

    id: Mapped[int] = mapped_column(primary_key=True, sort_order=-1)


def _now() -> Any:
    return mapped_column(server_default=func.now())


def _updated() -> Any:
    """The trigger `touch_updated_at` writes it on every change, in bulk updates too."""
    return mapped_column(server_default=func.now(), server_onupdate=FetchedValue())


class Video(Base):
    """A stored video; every other row hangs off it. It exists from the moment its file is in the object store."""

    __tablename__ = "videos"
    __table_args__ = (
        # a hash index: URLs are looked up by equality only, and a B-tree refuses entries over 2704 bytes
        Index(None, "source_url", postgresql_using="hash"),
        Index(
            "ix_videos_title_identifier_trigrams",
            "title",
            "identifier",
            postgresql_using="gin",
            postgresql_ops={"title": "gin_trgm_ops", "identifier": "gin_trgm_ops"},
        ),
    )

    identifier: Mapped[str] = mapped_column(String(255), unique=True)
    source_url: Mapped[str | None]
    cloud_url: Mapped[str]
    title: Mapped[str | None] = mapped_column(String(500))
    duration_seconds: Mapped[float | None]
    file_size_kb: Mapped[int | None] = mapped_column(BigInteger)
    video_codec: Mapped[str | None] = mapped_column(String(50))
    audio_codec: Mapped[str | None] = mapped_column(String(50))
    resolution: Mapped[str | None] = mapped_column(String(20))
    frame_rate: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class Transcript(Base):
    """What is said in a video. Times are seconds of the video's clock. Never updated: replaced."""

    __tablename__ = "transcripts"

    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"), unique=True)
    full_text: Mapped[str]
    word_timestamps: Mapped[list[dict[str, Any]]]
    segment_timestamps: Mapped[list[dict[str, Any]]]
    language: Mapped[str | None] = mapped_column(String(10), server_default="en")
    number_of_words: Mapped[int | None]
    number_of_segments: Mapped[int | None]
    transcription_service: Mapped[str | None] = mapped_column(String(50))
    processing_time_seconds: Mapped[float | None]
    created_at: Mapped[datetime] = _now()


class TranscriptPassage(Base):
    """Some sentences of a transcript: what search looks in, ranks and shows (db/passages.py). `word_starts_ms`: when
    each word of `text` starts, in milliseconds of the video's clock."""

    __tablename__ = "transcript_passages"
    __table_args__ = (
        UniqueConstraint("transcript_id", "number"),
        Index("ix_transcript_passages_search", "search", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, sort_order=-1)
    transcript_id: Mapped[int] = mapped_column(ForeignKey("transcripts.id", ondelete="CASCADE"))
    number: Mapped[int]
    start_time: Mapped[float]
    end_time: Mapped[float]
    text: Mapped[str]
    word_starts_ms: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    search: Mapped[str | None] = mapped_column(
        TSVECTOR,
        Computed(
            "to_tsvector('english'::regconfig, search_text(text))"
            " || array_to_tsvector(ARRAY[('#'::text || (id >> 11))])",
            persisted=True,
        ),
    )


class Prompt(Base):
    """A pair of prompts, stored once."""

    __tablename__ = "prompts"

    user_prompt: Mapped[str]
    system_prompt: Mapped[str]
    prompt_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = _now()


class GenerationConfig(Base):
    """The parameters of a model call, shared by every video processed with the same ones.

    `transcript_id` names the transcript it was last used on, and is SET NULL when that one goes: a cascade would
    delete the configuration, and with it other videos' moments.
    """

    __tablename__ = "generation_configs"

    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id", ondelete="CASCADE"))
    transcript_id: Mapped[int | None] = mapped_column(ForeignKey("transcripts.id", ondelete="SET NULL"))
    model: Mapped[str] = mapped_column(String(100))
    operation_type: Mapped[str] = mapped_column(String(50))
    temperature: Mapped[float | None]
    top_p: Mapped[float | None]
    top_k: Mapped[int | None]
    min_moment_length: Mapped[float | None]
    max_moment_length: Mapped[float | None]
    min_moments: Mapped[int | None]
    max_moments: Mapped[int | None]
    config_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = _now()


class Moment(Base):
    """A titled stretch of a video. A root moment has a clip; a refined one has a root moment as its parent."""

    __tablename__ = "moments"
    __table_args__ = (
        CheckConstraint("end_time > start_time", name="ends_after_start"),
        CheckConstraint("start_time >= 0", name="starts_in_video"),
        CheckConstraint("parent_id IS NULL OR is_refined", name="parent_only_of_refined"),
        CheckConstraint("score BETWEEN 0 AND 10", name="score_range"),
        Index(None, "video_id", "start_time"),
    )

    identifier: Mapped[str] = mapped_column(String(20), unique=True)
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    start_time: Mapped[float]
    end_time: Mapped[float]
    title: Mapped[str] = mapped_column(String(500))
    is_refined: Mapped[bool] = mapped_column(server_default=false())
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("moments.id", ondelete="SET NULL"), index=True)
    generation_model: Mapped[str | None] = mapped_column(String(100))
    generation_config_id: Mapped[int | None] = mapped_column(
        ForeignKey("generation_configs.id", ondelete="CASCADE"), index=True
    )
    score: Mapped[int | None]
    scoring_model: Mapped[str | None] = mapped_column(String(100))
    scored_at: Mapped[datetime | None]
    edited_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _updated()


Index(
    "ix_moments_title_search",
    func.to_tsvector(text("'english'"), func.search_text(Moment.title)),
    postgresql_using="gin",
    postgresql_with={"fastupdate": "off"},
)


class Clip(Base):
    """The file cut for a root moment. Times are seconds of the source video, as the file really holds them."""

    __tablename__ = "clips"
    __table_args__ = (CheckConstraint("end_time > start_time", name="ends_after_start"),)

    moment_id: Mapped[int] = mapped_column(ForeignKey("moments.id", ondelete="CASCADE"), unique=True)
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"), index=True)
    cloud_url: Mapped[str]
    start_time: Mapped[float]
    end_time: Mapped[float]
    padding_left: Mapped[float | None]
    padding_right: Mapped[float | None]
    file_size_kb: Mapped[int | None] = mapped_column(BigInteger)
    format: Mapped[str | None] = mapped_column(String(20))
    video_codec: Mapped[str | None] = mapped_column(String(50))
    audio_codec: Mapped[str | None] = mapped_column(String(50))
    resolution: Mapped[str | None] = mapped_column(String(20))
    created_at: Mapped[datetime] = _now()


class Thumbnail(Base):
    """A still picture of a video or of a clip: exactly one of the two."""

    __tablename__ = "thumbnails"
    __table_args__ = (
        CheckConstraint("num_nonnulls(video_id, clip_id) = 1", name="one_owner"),
        Index("uq_thumbnails_video_id", "video_id", unique=True, postgresql_where=text("video_id IS NOT NULL")),
        Index("uq_thumbnails_clip_id", "clip_id", unique=True, postgresql_where=text("clip_id IS NOT NULL")),
    )

    video_id: Mapped[int | None] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    clip_id: Mapped[int | None] = mapped_column(ForeignKey("clips.id", ondelete="CASCADE"))
    cloud_url: Mapped[str]
    file_size_kb: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = _now()


class PipelineRun(Base):
    """One run of the pipeline, kept for good; `video_id` is null when it failed before the video was stored."""

    __tablename__ = "pipeline_history"
    __table_args__ = (
        CheckConstraint("status IN ('running', 'completed', 'failed', 'partial', 'cancelled')", name="status"),
        Index("ix_pipeline_history_video_id_started_at", "video_id", text("started_at DESC")),
        Index("ix_pipeline_history_started_at", "started_at", "identifier"),
        Index(
            "ix_pipeline_history_failed",
            "started_at",
            "identifier",
            postgresql_where=text("status IN ('failed', 'partial')"),
        ),
    )

    identifier: Mapped[str] = mapped_column(String(100), unique=True)
    video_id: Mapped[int | None] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    generation_config_id: Mapped[int | None] = mapped_column(ForeignKey("generation_configs.id", ondelete="SET NULL"))
    pipeline_type: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(20))
    started_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    duration_seconds: Mapped[float | None]
    total_moments_generated: Mapped[int | None]
    total_clips_created: Mapped[int | None]
    error_stage: Mapped[str | None] = mapped_column(String(50))
    error_message: Mapped[str | None]
    created_at: Mapped[datetime] = _now()


Index(
    "ix_pipeline_history_without_video",
    func.split_part(PipelineRun.identifier, text("':'"), text("2")),
    PipelineRun.started_at,
    postgresql_where=PipelineRun.video_id.is_(None),
)


class PipelineRequest(Base):
    """What was asked for: the truth about it, while Redis only carries it fast. It exists before its video does.

    `cancel_requested_at`: somebody wants it cancelled; it stays active until its run has ended. `webhook_url` is told
    of its end, signed with `webhook_secret`.
    """

    __tablename__ = "pipeline_requests"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'launched', 'finished', 'rejected')", name="state"),
        Index("ix_pipeline_requests_video_identifier_requested_at", "video_identifier", text("requested_at DESC")),
        Index("ix_pipeline_requests_active", "updated_at", postgresql_where=text("state IN ('queued', 'launched')")),
        Index("ix_pipeline_requests_queued", "requested_at", "id", postgresql_where=text("state = 'queued'")),
    )

    request_id: Mapped[str] = mapped_column(String(36), unique=True)
    video_identifier: Mapped[str] = mapped_column(String(255))
    source_url: Mapped[str | None]
    pipeline_type: Mapped[str] = mapped_column(String(50))
    config: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    state: Mapped[str] = mapped_column(String(20))
    run_id: Mapped[str | None] = mapped_column(String(36))
    error: Mapped[str | None]
    cancel_requested_at: Mapped[datetime | None]
    webhook_url: Mapped[str | None]
    webhook_secret: Mapped[str | None]
    requested_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _updated()


class WebhookDelivery(Base):
    """What a request's webhook is told, once an event, and how telling it went. `next_attempt_at` is null when that is
    over: `delivered_at` says whether it was heard."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("event IN ('completed', 'failed', 'cancelled')", name="event"),
        UniqueConstraint("request_id", "event"),
        Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("next_attempt_at IS NOT NULL")),
        Index("ix_webhook_deliveries_created_at", "created_at", "identifier"),
    )

    identifier: Mapped[str] = mapped_column(String(36), unique=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("pipeline_requests.request_id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(20))
    payload: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    next_attempt_at: Mapped[datetime | None]
    last_attempt_at: Mapped[datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    delivered_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()


class ApiKey(Base):
    """Who may ask the API, and for what. The key itself is known to its owner only; here is its SHA-256."""

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint("scope IN ('read', 'write', 'admin')", name="scope"),)

    identifier: Mapped[str] = mapped_column(String(20), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scope: Mapped[str] = mapped_column(String(10))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()
