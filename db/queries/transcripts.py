"""Transcripts: one a video, replaced as a whole, with the passages that search looks in."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from db.models import Transcript, TranscriptPassage
from db.passages import Passage, cut
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
    _insert(session, transcript.id, _passages_of(transcript))
    return transcript


def missing_passages(session: Session, transcript_id: int) -> list[Passage]:
    """Those that a transcript was stored without. None where it has any, is gone, or nothing is said in it."""
    there = select(TranscriptPassage.id).where(TranscriptPassage.transcript_id == transcript_id).limit(1)
    transcript = session.get(Transcript, transcript_id)
    return [] if transcript is None or session.scalar(there) is not None else _passages_of(transcript)


def add_missing_passages(session: Session, transcript_id: int) -> bool:
    """Whether any were missing."""
    session.execute(select(Transcript.id).where(Transcript.id == transcript_id).with_for_update())
    passages = missing_passages(session, transcript_id)
    _insert(session, transcript_id, passages)
    return bool(passages)


def _passages_of(transcript: Transcript) -> list[Passage]:
    return cut(transcript.word_timestamps, transcript.segment_timestamps, transcript.full_text)


def _insert(session: Session, transcript_id: int, passages: Sequence[Passage]) -> None:
    if passages:
        session.execute(
            insert(TranscriptPassage), [{"transcript_id": transcript_id, **asdict(passage)} for passage in passages]
        )
