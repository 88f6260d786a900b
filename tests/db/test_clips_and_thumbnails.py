"""Clips and thumbnails: one each, replaced in place, and what became of the old object is said."""

from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Clip, Moment, Thumbnail
from db.queries import clips, thumbnails, transcripts
from tests import factories as make
from tests.db.conftest import QueryCounter
from videomoments_dagster.errors import Conflict, NotFound


def cut(session: Session, moment: Moment, **values: Any) -> clips.StoredClip:
    defaults: dict[str, Any] = {
        "cloud_url": f"gs://bucket/{moment.identifier}.mp4",
        "start_time": moment.start_time,
        "end_time": moment.end_time,
        "padding_left": 0.0,
        "padding_right": 0.5,
        "file_size_kb": 100,
        "format": "mp4",
        "video_codec": "h264",
        "audio_codec": "aac",
        "resolution": "1280x720",
    }
    return clips.upsert(session, moment.id, moment.video_id, **{**defaults, **values})


def test_a_clip_is_inserted_with_every_column(session: Session) -> None:
    moment = make.moment(session, make.video(session), 3)
    stored = cut(session, moment, padding_left=1.5, start_time=1.5)
    assert stored.replaced_cloud_url is None
    clip = session.get_one(Clip, stored.clip.id)
    assert (clip.moment_id, clip.video_id) == (moment.id, moment.video_id)
    assert (clip.start_time, clip.padding_left, clip.padding_right) == (1.5, 1.5, 0.5)
    assert (clip.format, clip.video_codec, clip.audio_codec, clip.resolution) == ("mp4", "h264", "aac", "1280x720")


def test_cutting_again_keeps_the_row_and_its_picture(session: Session) -> None:
    moment = make.moment(session, make.video(session))
    first = cut(session, moment).clip.id
    thumbnails.set_clip_thumbnail(session, first, cloud_url="gs://bucket/a.jpg", file_size_kb=1)
    again = cut(session, moment, end_time=12.0)
    assert (again.clip.id, again.clip.end_time, again.replaced_cloud_url) == (first, 12.0, None)
    assert [clip.thumbnail_cloud_url for clip in clips.of_video(session, moment.video_id)] == ["gs://bucket/a.jpg"]


def test_a_clip_stored_elsewhere_names_the_object_it_replaces(session: Session) -> None:
    moment = make.moment(session, make.video(session))
    cut(session, moment, cloud_url="gs://bucket/old.mp4")
    assert cut(session, moment, cloud_url="gs://bucket/new.mp4").replaced_cloud_url == "gs://bucket/old.mp4"


def test_a_refined_moment_gets_no_clip(session: Session) -> None:
    child = make.refined(session, make.moment(session, make.video(session)))
    with pytest.raises(Conflict, match=child.identifier):
        cut(session, child)


def test_a_clip_is_of_its_moments_video(session: Session) -> None:
    moment = make.moment(session, make.video(session))
    session.expunge(moment)
    moment.video_id = make.video(session).id
    with pytest.raises(Conflict, match=moment.identifier):
        cut(session, moment)


def test_a_clip_of_a_moment_deleted_meanwhile_is_not_found(session: Session) -> None:
    moment = make.moment(session, make.video(session))
    session.delete(moment)
    session.flush()
    with pytest.raises(NotFound):
        cut(session, moment)


def test_clips_come_in_the_order_of_the_video_in_one_query(session: Session, statements: QueryCounter) -> None:
    video = make.video(session)
    for start in (40, 0, 20):
        make.thumbnail(session, make.clip(session, make.moment(session, video, start, title=f"at {start}")))
    make.clip(session, make.moment(session, make.video(session)))
    with statements() as sent:
        found = clips.of_video(session, video.id)
    assert [clip.title for clip in found] == ["at 0", "at 20", "at 40"]
    assert all(clip.thumbnail_cloud_url for clip in found)
    assert len(sent) == 1


def test_thumbnails_are_one_each_and_say_what_they_replace(session: Session) -> None:
    video = make.video(session)
    clip = make.clip(session, make.moment(session, video))
    for set_one, owner in (
        (thumbnails.set_video_thumbnail, video.id),
        (thumbnails.set_clip_thumbnail, clip.id),
    ):
        assert set_one(session, owner, cloud_url="gs://bucket/1.jpg", file_size_kb=1) is None
        assert set_one(session, owner, cloud_url="gs://bucket/1.jpg", file_size_kb=2) is None
        assert set_one(session, owner, cloud_url="gs://bucket/2.jpg", file_size_kb=3) == "gs://bucket/1.jpg"
    assert session.scalar(select(func.count()).select_from(Thumbnail)) == 2


def test_a_videos_thumbnails_come_its_own_first_in_one_query(session: Session, statements: QueryCounter) -> None:
    video = make.video(session)
    for start in (20, 0):
        make.thumbnail(session, make.clip(session, make.moment(session, video, start, identifier=f"at-{start}")))
    make.thumbnail(session, video, cloud_url="gs://bucket/own.jpg")
    make.thumbnail(session, make.video(session))
    with statements() as sent:
        found = thumbnails.of_video(session, video.id)
    assert [picture.moment_identifier for picture in found] == [None, "at-0", "at-20"]
    assert found[0].cloud_url == "gs://bucket/own.jpg"
    assert len(sent) == 1


def test_a_transcript_is_replaced_as_a_whole(session: Session) -> None:
    video = make.video(session)
    assert transcripts.get(session, video.id) is None
    old = make.transcript(session, video).id
    made = transcripts.replace(
        session,
        video.id,
        full_text="One two. Three.",
        word_timestamps=[{"word": word, "start": 0.0, "end": 0.1} for word in ("One", "two.", "Three.")],
        segment_timestamps=[{"text": "One two.", "start": 0.0, "end": 1.0}, {"text": "Three.", "start": 1, "end": 2}],
        language="en",
        transcription_service="builtin_speech",
        processing_time_seconds=1.5,
    )
    session.expire_all()
    found = transcripts.get(session, video.id)
    assert found is made
    assert made.id != old
    assert (made.number_of_words, made.number_of_segments, made.full_text) == (3, 2, "One two. Three.")
    assert made.word_timestamps[1] == {"word": "two.", "start": 0.0, "end": 0.1}


def test_nothing_said_is_a_transcript_too(session: Session) -> None:
    made = transcripts.replace(
        session,
        make.video(session).id,
        full_text="",
        word_timestamps=[],
        segment_timestamps=[],
        language="en",
        transcription_service="builtin_speech",
        processing_time_seconds=None,
    )
    assert (made.number_of_words, made.number_of_segments) == (0, 0)


def test_a_transcript_of_a_video_deleted_meanwhile_is_not_found(session: Session) -> None:
    video = make.video(session)
    session.delete(video)
    session.flush()
    with pytest.raises(NotFound):
        transcripts.replace(
            session,
            video.id,
            full_text="",
            word_timestamps=[],
            segment_timestamps=[],
            language="en",
            transcription_service="builtin_speech",
            processing_time_seconds=None,
        )
