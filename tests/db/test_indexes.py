"""The indexes of the design are there, and PostgreSQL can use them for the queries they are made for."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from db.queries import failures, moments, requests, runs, search, videos
from tests import factories as make

INDEXES = {
    "ix_clips_video_id": "btree (video_id)",
    "ix_moments_generation_config_id": "btree (generation_config_id)",
    "ix_moments_parent_id": "btree (parent_id)",
    "ix_moments_title_search": (
        "gin (to_tsvector('english'::regconfig, search_text((title)::text))) WITH (fastupdate=off)"
    ),
    "ix_moments_video_id_start_time": "btree (video_id, start_time)",
    "ix_pipeline_history_failed": (
        "btree (started_at, identifier) WHERE ((status)::text = ANY "
        "((ARRAY['failed'::character varying, 'partial'::character varying])::text[]))"
    ),
    "ix_pipeline_history_started_at": "btree (started_at, identifier)",
    "ix_pipeline_history_video_id_started_at": "btree (video_id, started_at DESC)",
    "ix_pipeline_history_without_video": (
        "btree (split_part((identifier)::text, ':'::text, 2), started_at) WHERE (video_id IS NULL)"
    ),
    "ix_pipeline_requests_active": (
        "btree (updated_at) WHERE ((state)::text = ANY "
        "((ARRAY['queued'::character varying, 'launched'::character varying])::text[]))"
    ),
    "ix_pipeline_requests_queued": "btree (requested_at, id) WHERE ((state)::text = 'queued'::text)",
    "ix_pipeline_requests_video_identifier_requested_at": "btree (video_identifier, requested_at DESC)",
    "ix_transcript_passages_search": "gin (search) WITH (fastupdate=off)",
    "ix_videos_created_at": "btree (created_at)",
    "ix_videos_source_url": "hash (source_url)",
    "ix_videos_title_identifier_trigrams": "gin (title gin_trgm_ops, identifier gin_trgm_ops)",
    "ix_webhook_deliveries_created_at": "btree (created_at, identifier)",
    "ix_webhook_deliveries_due": "btree (next_attempt_at) WHERE (next_attempt_at IS NOT NULL)",
    "uq_thumbnails_clip_id": "btree (clip_id) WHERE (clip_id IS NOT NULL)",
    "uq_thumbnails_video_id": "btree (video_id) WHERE (video_id IS NOT NULL)",
}


def test_the_indexes_of_the_design_are_there(session: Session) -> None:
    """Those that primary keys and unique constraints bring are theirs."""
    found = session.execute(
        text(
            "SELECT indexname, substring(indexdef FROM 'USING (.*)') AS definition FROM pg_indexes "
            "WHERE schemaname = 'public' AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        )
    )
    assert {row.indexname: row.definition for row in found} == INDEXES


def indexes_used(session: Session, ask: Callable[[], Any]) -> set[str]:
    """The indexes in the plans of what `ask` sends, when reading whole tables is made expensive."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        sent.append((statement, parameters))

    connection = session.connection()
    session.execute(text("SET LOCAL enable_seqscan = off"))
    event.listen(connection, "before_cursor_execute", note)
    ask()
    event.remove(connection, "before_cursor_execute", note)
    plans = [
        connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
        for statement, parameters in sent
    ]
    return set(_index_names(json.loads(json.dumps(plans))))


def _index_names(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for part in node for name in _index_names(part)]
    if isinstance(node, dict):
        own = [node["Index Name"]] if "Index Name" in node else []
        return own + [name for part in node.values() for name in _index_names(part)]
    return []


NOT_IN_ORDER = text("SELECT set_config('enable_indexscan', 'off', true)")
"""In a library of nothing, reading it in the page's order and filtering costs as little."""


@pytest.mark.parametrize(
    ("index", "ask"),
    [
        ("ix_videos_created_at", lambda s: videos.page(limit=1).run(s)),
        ("ix_videos_created_at", lambda s: videos.page(limit=1, cursor=videos.page(limit=1).run(s).next_cursor).run(s)),
        ("ix_videos_title_identifier_trigrams", lambda s: (s.execute(NOT_IN_ORDER), videos.page(q="talk").run(s))),
        ("ix_transcript_passages_search", lambda s: search.page("tea", limit=1).run(s)),
        ("ix_moments_title_search", lambda s: search.page("tea", limit=1).run(s)),
        ("ix_videos_source_url", lambda s: videos.by_source_url(s, "https://example.org/a.mp4")),
        ("uq_videos_identifier", lambda s: videos.get(s, "a")),
        ("ix_moments_video_id_start_time", lambda s: moments.of_video(s, 1)),
        ("uq_clips_moment_id", lambda s: moments.view(s, "0000000000000001")),
        ("ix_pipeline_history_video_id_started_at", lambda s: runs.page(s, "a", limit=1)),
        ("ix_pipeline_history_without_video", lambda s: runs.page(s, "never-stored", limit=1)),
        ("ix_pipeline_requests_video_identifier_requested_at", lambda s: requests.newest(s, "a")),
        ("ix_pipeline_requests_video_identifier_requested_at", lambda s: requests.active(s, "a")),
        ("ix_pipeline_requests_active", lambda s: requests.unheard_before(s, "launched", datetime.now(UTC), 50)),
        ("ix_pipeline_requests_queued", lambda s: requests.queued_before(s, datetime.now(UTC), 50)),
        ("ix_pipeline_requests_active", lambda s: requests.to_cancel(s, 50)),
        ("ix_pipeline_history_started_at", lambda s: runs.recent(s, limit=1)),
        ("ix_pipeline_history_failed", lambda s: failures.page(s, limit=1)),
        ("ix_pipeline_requests_queued", lambda s: requests.queue_position(s, "waiting")),
    ],
)
def test_a_query_can_use_its_index(session: Session, index: str, ask: Callable[[Session], Any]) -> None:
    # what other tests left behind, dead rows and all, would count in PostgreSQL's choice
    session.execute(text("TRUNCATE videos, pipeline_requests, prompts CASCADE"))
    first, _ = make.video(session, identifier="a"), make.video(session)
    make.run(session, first)
    make.request(session, "a", request_id="waiting")
    assert index in indexes_used(session, lambda: ask(session))


def test_cascades_find_their_rows_by_index(session: Session) -> None:
    """What PostgreSQL asks by itself when a moment, a configuration or a video is deleted."""
    for index, question in {
        "ix_moments_parent_id": "SELECT 1 FROM moments WHERE parent_id = 1",
        "ix_moments_generation_config_id": "SELECT 1 FROM moments WHERE generation_config_id = 1",
        "ix_clips_video_id": "SELECT 1 FROM clips WHERE video_id = 1",
        "uq_thumbnails_clip_id": "SELECT 1 FROM thumbnails WHERE clip_id = 1",
        "uq_thumbnails_video_id": "SELECT 1 FROM thumbnails WHERE video_id = 1",
    }.items():
        assert indexes_used(session, lambda question=question: session.execute(text(question))) == {index}


def test_a_very_long_source_url_is_stored_and_found(session: Session) -> None:
    """A B-tree would refuse it: entries are limited to a third of a page, and signed URLs are long."""
    noise = "".join(f"{number * 2654435761 % 2**32:08x}" for number in range(1000))
    url = f"https://example.org/a.mp4?signature={noise}"
    video = make.video(session, source_url=url)
    assert videos.by_source_url(session, url) is video
