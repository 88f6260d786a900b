"""A library to ask: 10,000 videos, 100,000 moments with clips, 2,000 transcripts of 8,000 words. Made by a seed."""

import random
from dataclasses import dataclass

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from db.models import TranscriptPassage
from db.queries import transcripts, videos

VIDEOS, MOMENTS_EACH, TRANSCRIPTS, WORDS = 10_000, 10, 2_000, 8_000
_DIFFERENT = 100
"""Transcripts that are made; the others are copies of them under other videos."""
_VOCABULARY = 30_000
_MARGIN_WORDS = 12
"""A sentence's length; words are a third of a second apart."""

_ROWS = """
INSERT INTO videos (identifier, source_url, cloud_url, title, duration_seconds, file_size_kb, video_codec, audio_codec,
    resolution, frame_rate, created_at)
SELECT 'video-' || n, 'https://example.org/' || n || '.mp4', :base || 'videos/video-' || n || '/video-' || n || '.mp4',
    'Lecture ' || n || ' on ' || md5(n::text), 3000, 48213, 'h264', 'aac', '1920x1080', 25,
    now() - n * interval '1 minute'
FROM generate_series(1, :videos) AS n;
INSERT INTO prompts (user_prompt, system_prompt, prompt_hash) VALUES ('u', 's', 'h');
INSERT INTO generation_configs (prompt_id, model, operation_type, config_hash)
SELECT id, 'builtin_moments', 'generation', repeat('a', 64) FROM prompts;
INSERT INTO moments (identifier, video_id, start_time, end_time, title, generation_model, generation_config_id, score)
SELECT substr(md5(video.id || '-' || n), 1, 16), video.id, n * 120, n * 120 + 60, 'Part ' || n || ' of ' || video.title,
    'builtin_moments', (SELECT min(id) FROM generation_configs), n % 11
FROM videos AS video, generate_series(1, :moments) AS n;
INSERT INTO clips (moment_id, video_id, cloud_url, start_time, end_time, padding_left, padding_right, file_size_kb,
    format, video_codec, audio_codec, resolution)
SELECT id, video_id, :base || 'clips/' || identifier || '.mp4', start_time, end_time, 0, 0, 3120, 'mp4', 'h264', 'aac',
    '1920x1080'
FROM moments;
INSERT INTO thumbnails (clip_id, cloud_url, file_size_kb) SELECT id, :base || 'thumbnails/' || id || '.jpg', 12
FROM clips;
INSERT INTO thumbnails (video_id, cloud_url, file_size_kb) SELECT id, :base || 'thumbnails/v' || id || '.jpg', 12
FROM videos;
INSERT INTO pipeline_requests (request_id, video_identifier, pipeline_type, state)
SELECT md5(identifier), identifier, 'full', 'finished' FROM videos;
INSERT INTO pipeline_history (identifier, video_id, pipeline_type, status, started_at, completed_at)
SELECT 'pipeline\\:' || identifier || '\\:1', id, 'full', 'completed', created_at, created_at FROM videos
"""

_COPIES = """
INSERT INTO transcripts (video_id, full_text, word_timestamps, segment_timestamps, language, number_of_words,
    number_of_segments, transcription_service)
SELECT video.id, full_text, word_timestamps, segment_timestamps, language, number_of_words, number_of_segments,
    transcription_service
FROM generate_series(:different + 1, :transcripts) AS n
JOIN videos AS video ON video.identifier = 'video-' || n
JOIN videos AS original ON original.identifier = 'video-' || (n % :different + 1)
JOIN transcripts ON transcripts.video_id = original.id;
INSERT INTO transcript_passages (transcript_id, number, start_time, end_time, text, word_starts_ms)
SELECT copied.id, number, start_time, end_time, text, word_starts_ms
FROM generate_series(:different + 1, :transcripts) AS n
JOIN videos AS video ON video.identifier = 'video-' || n
JOIN transcripts AS copied ON copied.video_id = video.id
JOIN videos AS original ON original.identifier = 'video-' || (n % :different + 1)
JOIN transcripts AS made ON made.video_id = original.id
JOIN transcript_passages AS passage ON passage.transcript_id = made.id
"""


@dataclass(frozen=True)
class Vocabulary:
    """Words by how often they are said (Zipf's law), so that a search for a common one finds nearly everything."""

    words: list[str]
    weights: list[float]

    @classmethod
    def made(cls, chance: random.Random) -> "Vocabulary":
        syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "or")]
        words = list(dict.fromkeys("".join(chance.choices(syllables, k=3)) for _ in range(2 * _VOCABULARY)))
        words = words[:_VOCABULARY]
        return cls(words, [1 / rank for rank in range(1, len(words) + 1)])


def fill(engine: Engine, base: str) -> Vocabulary:
    """Write all rows; `base` is the address of the store, such as `file:///objects/`."""
    chance = random.Random(6)
    vocabulary = Vocabulary.made(chance)
    with engine.begin() as connection:
        for statement in _ROWS.split(";\n"):
            values = {"base": base, "videos": VIDEOS, "moments": MOMENTS_EACH}
            connection.execute(text(statement), {name: values[name] for name in values if f":{name}" in statement})
    for number in range(1, _DIFFERENT + 1):
        with Session(engine) as session, session.begin():
            _transcript(session, videos.require(session, f"video-{number}").id, vocabulary, chance)
    indexes = list(TranscriptPassage.metadata.tables["transcript_passages"].indexes)
    with engine.begin() as connection:
        for index in indexes:
            index.drop(connection)
        for statement in _COPIES.split(";\n"):
            connection.execute(text(statement), {"different": _DIFFERENT, "transcripts": TRANSCRIPTS})
        for index in indexes:
            index.create(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    return vocabulary


def _transcript(session: Session, video_id: int, vocabulary: Vocabulary, chance: random.Random) -> None:
    said = chance.choices(vocabulary.words, vocabulary.weights, k=WORDS)
    words = [{"word": word, "start": at / 3, "end": at / 3 + 0.25} for at, word in enumerate(said)]
    segments = [
        {
            "text": " ".join(said[at : at + _MARGIN_WORDS]),
            "start": at / 3,
            "end": (at + _MARGIN_WORDS) / 3,
        }
        for at in range(0, WORDS, _MARGIN_WORDS)
    ]
    transcripts.replace(
        session,
        video_id,
        full_text=" ".join(said),
        word_timestamps=words,
        segment_timestamps=segments,
        language="en",
        transcription_service="synthetic",
        processing_time_seconds=1.0,
    )
