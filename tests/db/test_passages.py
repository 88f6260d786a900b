"""Transcripts are cut into passages where sentences end, and every word keeps its time; old ones are cut on upgrade."""

import json
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from db import migrate
from db.passages import LEAST_WORDS, MOST_WORDS, cut
from videomoments_dagster.errors import InvalidConfig

WORDS = [{"word": f"word{number}", "start": number / 2, "end": number / 2 + 0.4} for number in range(300)]


def test_every_word_is_in_one_passage_with_its_time() -> None:
    passages = cut(WORDS, [], "")
    assert [passage.number for passage in passages] == list(range(len(passages)))
    assert " ".join(passage.text for passage in passages).split(" ") == [word["word"] for word in WORDS]
    assert [start for passage in passages for start in passage.word_starts_ms] == [n * 500 for n in range(300)]
    assert all(len(passage.text.split(" ")) == len(passage.word_starts_ms) <= MOST_WORDS for passage in passages)
    assert (passages[0].start_time, passages[-1].end_time) == (0.0, 149.9)


def test_passages_begin_with_segments_and_sentences() -> None:
    segments = [{"text": "...", "start": start, "end": start + 5.0} for start in (0.0, 25.0, 35.0)]
    assert [passage.start_time for passage in cut(WORDS[:120], segments, "")] == [0.0, 25.0]
    words = [word | {"word": "end."} if number == 44 else word for number, word in enumerate(WORDS[:120])]
    assert [len(passage.word_starts_ms) for passage in cut(words, [], "")] == [45, 75]
    assert LEAST_WORDS <= 45


def test_segments_or_the_text_do_without_words() -> None:
    [passage] = cut([], [{"text": "Hello\0 there.", "start": 1.5, "end": 2.0}], "")
    assert (passage.text, passage.word_starts_ms, passage.end_time) == ("Hello there.", [1500, 1500], 2.0)
    [whole] = cut([], [], "Only a text")
    assert (whole.text, whole.start_time) == ("Only a text", 0.0)
    assert cut([], [], "  ") == []
    [odd] = cut([{"word": "two words", "start": None, "end": None}, {"word": "x", "start": 9e9, "end": 1.0}], [], "")
    assert odd.word_starts_ms == [0, 0, 2**31 - 1]


def test_transcripts_from_before_are_cut_on_upgrade(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url, "0004")
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        for number in range(25):  # more than one batch
            connection.execute(
                text(
                    "WITH video AS (INSERT INTO videos (identifier, cloud_url) VALUES (:video, '') RETURNING id)"
                    " INSERT INTO transcripts (video_id, full_text, word_timestamps, segment_timestamps)"
                    " SELECT id, '', :words, '[]' FROM video"
                ),
                {"video": f"video-{number}", "words": json.dumps(WORDS)},
            )
    migrate.upgrade(empty_database_url)
    with engine.begin() as connection:
        counted = connection.execute(
            text(
                "SELECT count(DISTINCT transcript_id), count(*), count(*) FILTER (WHERE search @@ 'word299')"
                " FROM transcript_passages"
            )
        ).one()
    engine.dispose()
    assert tuple(counted) == (25, 25 * len(cut(WORDS, [], "")), 25)


def run(url: str, *statements: str, **values: str) -> list[Any]:
    """What the last one gives."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        results = [connection.execute(text(statement), values) for statement in statements]
        rows = list(results[-1]) if results[-1].returns_rows else []
    engine.dispose()
    return rows


FOUND = """
    SELECT (SELECT count(*) FROM transcript_passages WHERE search @@ to_tsquery('english', search_text(word))),
        (SELECT count(*) FROM moments
            WHERE to_tsvector('english', search_text(title)) @@ to_tsquery('english', search_text(word)))
    FROM unnest(ARRAY['\u00e9cole', 'Green', '\u041f\u0420\u0418\u0412\u0435\u0442']) AS asked (word)
"""


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_words_of_before_are_found_after_the_upgrade_where_only_ascii_is_known(
    empty_database_url: str, encoding: str
) -> None:
    """In a database of the locale C, as somebody else's server may have. Only UTF8 has all letters."""
    address = make_url(empty_database_url)
    url = address.set(database=f"{address.database}_c").render_as_string(hide_password=False)
    options = f"ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    run(empty_database_url, f'CREATE DATABASE "{address.database}_c" {options}')
    try:
        migrate.upgrade(url, "0005")
        if encoding != "UTF8":
            with pytest.raises(InvalidConfig, match="UTF8"):
                migrate.upgrade(url)
            return
        said = "\u201c\u00c9COLE\u2026 \u00abgreen\u00bb\u2014\u043f\u0440\u0438\u0432\u0435\u0442\u201d"
        run(
            url,
            "INSERT INTO videos (id, identifier, cloud_url) VALUES (1, 'a', '')",
            "INSERT INTO transcripts (id, video_id, full_text, word_timestamps, segment_timestamps)"
            " VALUES (1, 1, '', '[]', '[]')",
            "INSERT INTO transcript_passages (transcript_id, number, start_time, end_time, text, word_starts_ms)"
            " VALUES (1, 0, 0, 1, :said, '{0, 1}')",
            "INSERT INTO moments (identifier, video_id, start_time, end_time, title)"
            " VALUES ('0000000000000001', 1, 0, 1, :said)",
            said=said,
        )
        migrate.upgrade(url)
        assert migrate.check(url) == []
        assert [tuple(row) for row in run(url, FOUND)] == [(1, 1)] * 3
        migrate.downgrade(url, "0005")
        assert [row[0] for row in run(url, "SELECT count(*) FROM transcript_passages WHERE search @@ 'green'")] == [0]
    finally:
        run(empty_database_url, f'DROP DATABASE "{address.database}_c" WITH (FORCE)')
