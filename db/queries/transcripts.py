"""Transcripts: one a video, replaced as a whole, with the passages that search looks in."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from db.models import Transcript, TranscriptPassage
from db.passages import cut
from db.queries.locks import lock_rows_of


def get(session: Session, video_id: int) -> Transcript | None:
    return session.scalar(select(Transcript).where(Transcript.video_id == video_id))


def exists(session: Session, video_id: int) -> bool:
    """Without reading it: a transcript may have megabytes."""
    return session.scalar(select(Transcript.id).where(Transcript.video_id == video_id)) is not None


def replace(
    session: Session,
    video_id: int,
    *,
    full_text: str,
    word_timestamps: Sequence[dict[str, Any]],
    segment_timestamps: Sequence[dict[str, Any]],
    language: str,
    transcription_service: str,
    processing_time_seconds: float | None,
) -> Transcript:
    """Delete the video's transcript and insert this one: `[{word, start, end}]` and `[{text, start, end}]`, seconds.

    Configurations last used on the old one stay, without a transcript. Raises NotFound when the video is gone.
    """
    lock_rows_of(session, video_id)
    session.execute(delete(Transcript).where(Transcript.video_id == video_id))
    transcript = Transcript(
        video_id=video_id,
        full_text=full_text,
        word_timestamps=list(word_timestamps),
        segment_timestamps=list(segment_timestamps),
        language=language,
        number_of_words=len(word_timestamps),
        number_of_segments=len(segment_timestamps),
        transcription_service=transcription_service,
        processing_time_seconds=processing_time_seconds,
    )
    session.add(transcript)
    session.flush()
    passages = cut(word_timestamps, segment_timestamps, full_text)
    if passages:
        session.execute(
            insert(TranscriptPassage), [{"transcript_id": transcript.id, **asdict(passage)} for passage in passages]
        )
    return transcript
