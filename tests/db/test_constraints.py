"""Every constraint of the tables, by a row that tries to break it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import inspect, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import Base, Moment
from tests import factories as make

Breaks = Callable[[Session], Any]


def twice(build: Breaks) -> Breaks:
    return lambda session: (build(session), build(session))


def video(session: Session) -> Any:
    return make.video(session)


def moment(session: Session) -> Any:
    return make.moment(session, make.video(session))


def clip(session: Session) -> Any:
    return make.clip(session, moment(session))


def both_owners(session: Session) -> Any:
    cut = clip(session)
    return make.thumbnail(session, cut, video_id=cut.video_id)


def two_of(owner: Breaks) -> Breaks:
    def build(session: Session) -> Any:
        of = owner(session)
        return make.thumbnail(session, of), make.thumbnail(session, of)

    return build


def clip_of_no_video(session: Session) -> Any:
    of = moment(session)
    session.execute(text("ALTER TABLE clips DISABLE TRIGGER clip_of_root_moment"))  # it would refuse first
    return make.clip(session, of, video_id=0)


def two_clips_of_a_moment(session: Session) -> Any:
    of = moment(session)
    return make.clip(session, of), make.clip(session, of)


def two_transcripts_of_a_video(session: Session) -> Any:
    of = video(session)
    return make.transcript(session, of), make.transcript(session, of)


def transcript(session: Session) -> Any:
    return make.transcript(session, video(session))


def two_passages_of_a_number(session: Session) -> Any:
    of = transcript(session)
    return make.passage(session, of, number=1), make.passage(session, of, number=1)


def two_deliveries_of_an_event(session: Session) -> Any:
    of = make.request(session, "a")
    return make.delivery(session, of), make.delivery(session, of)


def parent_of_a_root(session: Session) -> Any:
    parent = moment(session)
    return make.refined(session, parent, is_refined=False)


def root_with_a_parent_by_update(session: Session) -> Any:
    child = make.refined(session, moment(session))
    return session.execute(update(Moment).where(Moment.id == child.id).values(is_refined=False))


BROKEN: list[tuple[str, Breaks]] = [
    ("uq_videos_identifier", twice(lambda s: make.video(s, identifier="same"))),
    ("uq_transcripts_video_id", two_transcripts_of_a_video),
    ("uq_prompts_prompt_hash", twice(lambda s: make.prompt(s, prompt_hash="same"))),
    ("uq_generation_configs_config_hash", twice(lambda s: make.config(s, config_hash="same"))),
    ("uq_moments_identifier", twice(lambda s: make.moment(s, make.video(s), identifier="same"))),
    ("uq_clips_moment_id", two_clips_of_a_moment),
    ("uq_thumbnails_video_id", two_of(video)),
    ("uq_thumbnails_clip_id", two_of(clip)),
    ("uq_pipeline_history_identifier", twice(lambda s: make.run(s, identifier="same"))),
    ("uq_pipeline_requests_request_id", twice(lambda s: make.request(s, "a", request_id="same"))),
    ("uq_pipeline_requests_idempotency_key", twice(lambda s: make.request(s, "a", idempotency_key="same"))),
    ("ck_moments_ends_after_start", lambda s: make.moment(s, make.video(s), 5, 5)),
    ("ck_moments_starts_in_video", lambda s: make.moment(s, make.video(s), -0.001, 5)),
    ("ck_moments_score_range", lambda s: make.moment(s, make.video(s), score=11)),
    ("ck_moments_score_range", lambda s: make.moment(s, make.video(s), score=-1)),
    ("ck_moments_parent_only_of_refined", parent_of_a_root),
    ("ck_moments_parent_only_of_refined", root_with_a_parent_by_update),
    ("ck_clips_ends_after_start", lambda s: make.clip(s, moment(s), start_time=5, end_time=5)),
    ("ck_thumbnails_one_owner", both_owners),
    ("ck_thumbnails_one_owner", lambda s: make.thumbnail(s, video(s), video_id=None)),
    ("ck_pipeline_history_status", lambda s: make.run(s, status="done")),
    ("ck_pipeline_requests_state", lambda s: make.request(s, "a", state="done")),
    ("uq_transcript_passages_transcript_id_number", two_passages_of_a_number),
    ("fk_transcript_passages_transcript_id", lambda s: make.passage(s, transcript(s), transcript_id=0)),
    ("uq_webhook_deliveries_identifier", twice(lambda s: make.delivery(s, make.request(s, "a"), identifier="same"))),
    ("uq_webhook_deliveries_request_id_event", two_deliveries_of_an_event),
    ("ck_webhook_deliveries_event", lambda s: make.delivery(s, make.request(s, "a"), event="partial")),
    ("fk_webhook_deliveries_request_id", lambda s: make.delivery(s, make.request(s, "a"), request_id="none")),
    ("uq_api_keys_identifier", twice(lambda s: make.api_key(s, identifier="same"))),
    ("uq_api_keys_key_hash", twice(lambda s: make.api_key(s, key_hash="same"))),
    ("ck_api_keys_scope", lambda s: make.api_key(s, scope="all")),
    ("fk_transcripts_video_id", lambda s: make.transcript(s, make.video(s), video_id=0)),
    ("fk_generation_configs_prompt_id", lambda s: make.config(s, prompt_id=0)),
    ("fk_generation_configs_transcript_id", lambda s: make.config(s, transcript_id=0)),
    ("fk_moments_video_id", lambda s: make.moment(s, make.video(s), video_id=0)),
    ("fk_moments_parent_id", lambda s: make.refined(s, moment(s), parent_id=0)),
    ("fk_moments_generation_config_id", lambda s: make.moment(s, make.video(s), generation_config_id=0)),
    ("fk_clips_moment_id", lambda s: make.clip(s, moment(s), moment_id=0)),
    ("fk_clips_video_id", clip_of_no_video),
    ("fk_thumbnails_video_id", lambda s: make.thumbnail(s, video(s), video_id=0)),
    ("fk_thumbnails_clip_id", lambda s: make.thumbnail(s, clip(s), clip_id=0)),
    ("fk_pipeline_history_video_id", lambda s: make.run(s, video_id=0)),
    ("fk_pipeline_history_generation_config_id", lambda s: make.run(s, generation_config_id=0)),
]

# Columns with a default in the database: leaving them out is no break.
DEFAULTED = {"id", "created_at", "updated_at", "requested_at", "is_refined", "config", "attempts"}


@pytest.mark.parametrize(("name", "breaks"), BROKEN, ids=lambda value: value if isinstance(value, str) else "")
def test_constraint_refuses(session: Session, name: str, breaks: Breaks) -> None:
    with pytest.raises(IntegrityError) as refusal:
        breaks(session)
    assert refusal.value.orig.diag.constraint_name == name  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]


def test_every_constraint_in_the_database_is_broken_here(session: Session) -> None:
    there = set(
        session.scalars(
            text(
                "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace "
                "AND contype IN ('c', 'f', 'u') "
                "UNION SELECT indexrelid::regclass::text FROM pg_index WHERE indisunique AND NOT indisprimary "
                "AND indrelid::regclass::text NOT LIKE 'pg_%'"
            )
        )
    )
    assert there == {name for name, _ in BROKEN}


def required() -> list[tuple[str, str]]:
    return [
        (table.name, column.name)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if not column.nullable and column.name not in DEFAULTED
    ]


@pytest.mark.parametrize(("table", "column"), required())
def test_required_column_refuses_null(session: Session, table: str, column: str) -> None:
    row = rows(session)[table]
    with pytest.raises(IntegrityError, match="null value"):
        session.execute(text(f"UPDATE {table} SET {column} = NULL WHERE id = {row.id}"))  # noqa: S608  # our own names


def test_required_columns_are_those_of_the_design(session: Session) -> None:
    """A column that lost its NOT NULL would drop out of the test above without a word."""
    nullable = {
        (table.name, column["name"])
        for table in Base.metadata.sorted_tables
        for column in inspect(session.connection()).get_columns(table.name)
        if not column["nullable"] and column["name"] not in DEFAULTED
    }
    assert nullable == {
        *(("videos", c) for c in ("identifier", "cloud_url")),
        *(("transcripts", c) for c in ("video_id", "full_text", "word_timestamps", "segment_timestamps")),
        *(("prompts", c) for c in ("user_prompt", "system_prompt", "prompt_hash")),
        *(("generation_configs", c) for c in ("prompt_id", "model", "operation_type", "config_hash")),
        *(("moments", c) for c in ("identifier", "video_id", "start_time", "end_time", "title")),
        *(("clips", c) for c in ("moment_id", "video_id", "cloud_url", "start_time", "end_time")),
        ("thumbnails", "cloud_url"),
        *(("pipeline_history", c) for c in ("identifier", "pipeline_type", "status", "started_at")),
        *(("pipeline_requests", c) for c in ("request_id", "video_identifier", "pipeline_type", "state")),
        *(
            ("transcript_passages", c)
            for c in ("transcript_id", "number", "start_time", "end_time", "text", "word_starts_ms")
        ),
        *(("webhook_deliveries", c) for c in ("identifier", "request_id", "event", "payload")),
        *(("api_keys", c) for c in ("identifier", "name", "key_hash", "scope")),
    }


def rows(session: Session) -> dict[str, Any]:
    """One row of each table."""
    cut = clip(session)
    of = make.video(session)
    config = make.config(session)
    heard, asked = make.transcript(session, of), make.request(session, of.identifier)
    everything = [
        of,
        cut,
        config,
        heard,
        asked,
        make.passage(session, heard),
        make.delivery(session, asked),
        make.api_key(session),
        make.prompt(session),
        make.moment(session, of),
        make.thumbnail(session, of),
        make.run(session, of),
    ]
    return {row.__tablename__: row for row in everything}


@pytest.mark.parametrize("score", [0, 10, None])
def test_scores_at_both_ends_are_accepted(session: Session, score: int | None) -> None:
    make.moment(session, make.video(session), score=score)


def test_several_requests_without_an_idempotency_key_are_accepted(session: Session) -> None:
    make.request(session, "a")
    make.request(session, "a")


def test_a_run_is_recorded_before_its_video_exists(session: Session) -> None:
    make.run(session, None, status="failed")


def test_defaults_are_the_designs(session: Session) -> None:
    made = rows(session)
    for row in made.values():
        session.refresh(row)
    assert made["transcripts"].language == "en"
    assert made["moments"].is_refined is False
    assert made["pipeline_requests"].config == {}
    for name, row in made.items():
        if name == "transcript_passages":
            continue
        stamp = row.requested_at if name == "pipeline_requests" else row.created_at
        assert stamp.tzinfo is not None
