"""Full-text search in what is said and in the titles of moments: ranked keyset pages, at the same price at any depth.

A hit is a passage of a transcript (db/passages.py) or a moment. Ranking reads every row that is ranked, so what is
ranked is bounded: see `_CANDIDATES`. Everything is matched as English, with its stems and stop words: other languages
are treated alike when stored and when asked for, so that their words are found, only not all of their forms. Of scripts
without spaces only what was transcribed as one word is: nothing here knows where others begin.
"""

import base64
import binascii
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import text

from db.queries.paging import MAX_LIMIT, Page
from db.query import Query
from videomoments_dagster.errors import InvalidInput

BEGIN_MARK, END_MARK = "\ue000", "\ue001"
"""Around what matched in `SearchHit.text`: characters of Unicode's private use area, which no transcript means."""

_CANDIDATES = {"newest": 500, "others": 1_000, "phrases": 3_000, "titles": 2_000, "newest_titles": 300}
"""Words that `newest` passages of the last three blocks have are so common that these alone are ranked: the index would
list most of the library first. Of other words, all that those blocks have, and so many `others` besides.

The index does not know the order of words, and reading it takes some 2 us a passage: of `phrases` passages with all
words of a query with phrases, in the last eight blocks or else anywhere, those with the phrases are picked.

Of moments, the `newest_titles` among the first `titles` in the index; those with a phrase among all of these."""

# A block is 2,048 passages stored one after the other: each has the number of its block, `#123`, in `search` (revision
# 0006), a word that no text has. With it the index finds what the newest have without a look at all the others.
# What is asked comes out of one row, and each row of a page brings its own by LATERAL: so PostgreSQL plans for words
# that it does not know, by the indexes. Knowing how common they are, it would read whole tables. How many blocks there
# are is written out for the same plan: without, it takes them for a thousand.
_PAGE = text(r"""
WITH parsed AS MATERIALIZED (
    SELECT websearch_to_tsquery('english', search_text(CAST(:q AS text))) AS query
),
written AS MATERIALIZED (
    SELECT CASE WHEN querytree(query) NOT IN ('', 'T') THEN query END AS query, querytree(query) AS tree,
        CAST(query AS text) AS written,
        CAST(query AS text) ~ '<(-|\d+)>' AND CAST(query AS text) !~ '!' AS loose
    FROM parsed
),
asked AS MATERIALIZED (
    SELECT query, tree, written,
        CASE WHEN loose THEN CAST(regexp_replace(written, '<(-|\d+)>', '&', 'g') AS tsquery) ELSE query END AS words,
        CASE WHEN loose THEN 8 ELSE 3 END AS blocks,
        CASE WHEN loose THEN CAST(:phrases AS int) ELSE CAST(:newest AS int) END AS newest,
        CASE WHEN loose THEN CAST(:phrases AS int) ELSE CAST(:others AS int) END AS others,
        CASE WHEN loose THEN CAST(:titles AS int) ELSE CAST(:newest_titles AS int) END AS newest_titles,
        (SELECT max(id) >> 11 FROM transcript_passages) AS last_block
    FROM written
),
newest AS MATERIALIZED (
    SELECT id, CASE WHEN search @@ query THEN ts_rank(search, query) END AS rank
    FROM asked CROSS JOIN generate_series(0, 7) AS back CROSS JOIN LATERAL (
        SELECT id, search FROM transcript_passages
        WHERE search @@ (asked.words && CAST('''#' || (asked.last_block - back) || '''' AS tsquery))
    ) AS passage
    WHERE back < asked.blocks LIMIT (SELECT newest FROM asked)
),
others AS MATERIALIZED (
    SELECT id, CASE WHEN search @@ query THEN ts_rank(search, query) END AS rank
    FROM asked CROSS JOIN LATERAL (
        SELECT id, search FROM transcript_passages
        WHERE search @@ asked.words AND id >> 11 <= asked.last_block - asked.blocks
    ) AS passage
    WHERE (SELECT count(*) FROM newest) < asked.newest LIMIT (SELECT others FROM asked)
),
titled AS MATERIALIZED (
    SELECT id, title FROM asked CROSS JOIN LATERAL (
        SELECT id, title FROM moments WHERE to_tsvector('english', search_text(title)) @@ asked.words
    ) AS moment
    LIMIT CAST(:titles AS int)
),
ranked AS (
    SELECT 0 AS kind, id, rank FROM newest WHERE rank IS NOT NULL
    UNION ALL
    SELECT 0, id, rank FROM others WHERE rank IS NOT NULL
    UNION ALL
    SELECT 1, recent.id, ts_rank(setweight(recent.search, 'A'), asked.query)
    FROM asked CROSS JOIN (
        SELECT id, to_tsvector('english', search_text(title)) AS search
        FROM titled ORDER BY id DESC LIMIT (SELECT newest_titles FROM asked)
    ) AS recent
    WHERE recent.search @@ asked.query AND NOT EXISTS (SELECT FROM moments WHERE parent_id = recent.id)
),
page AS MATERIALIZED (
    SELECT kind, id, rank FROM ranked
    WHERE CAST(:rank AS float4) IS NULL
        OR (rank, kind, id) < (CAST(:rank AS float4), CAST(:kind AS int), CAST(:id AS bigint))
    ORDER BY rank DESC, kind DESC, id DESC LIMIT CAST(:rows AS int)
)
SELECT asked.tree, asked.written, hit.*
FROM asked LEFT JOIN (
    SELECT page.kind, page.id, page.rank, video.identifier AS video_identifier, video.title AS video_title,
        found.moment_identifier, found.start_time, found.end_time, found.word_starts_ms, found.text,
        ts_headline('english', search_text(found.text), asked.query, CAST(:marks AS text)) AS marked
    FROM asked CROSS JOIN page CROSS JOIN LATERAL (
        SELECT transcript.video_id, CAST(NULL AS text) AS moment_identifier, start_time, end_time, text, word_starts_ms
        FROM transcript_passages AS passage JOIN transcripts AS transcript ON transcript.id = passage.transcript_id
        WHERE page.kind = 0 AND passage.id = page.id
        UNION ALL
        SELECT video_id, identifier, start_time, end_time, title, NULL FROM moments WHERE page.kind = 1 AND id = page.id
    ) AS found CROSS JOIN LATERAL (SELECT identifier, title FROM videos WHERE id = found.video_id LIMIT 1) AS video
) AS hit ON true
ORDER BY hit.rank DESC, hit.kind DESC, hit.id DESC
""")

_PHRASE = re.compile(r"<(-|\d+)>")
_SPACE = re.compile(r"\s")
_MARKS = f"HighlightAll=true, StartSel={BEGIN_MARK}, StopSel={END_MARK}"


@dataclass(frozen=True, slots=True)
class SearchHit:
    """`text` is the passage or the title with BEGIN_MARK and END_MARK around what matched. `start_time` is when the
    first word that matched is said, or the moment starts; `end_time` is the passage's or the moment's. Seconds."""

    kind: Literal["transcript", "moment"]
    video_identifier: str
    video_title: str | None
    moment_identifier: str | None
    start_time: float
    end_time: float
    text: str
    rank: float


class _Row(NamedTuple):
    """The columns of `_PAGE`. The last are None in the one row that only says how `q` was understood."""

    tree: str
    written: str
    kind: int | None
    id: int
    rank: float
    video_identifier: str
    video_title: str | None
    moment_identifier: str | None
    start_time: float
    end_time: float
    word_starts_ms: list[int] | None
    text: str
    marked: str


def page(q: str, *, limit: int, cursor: str | None = None) -> Query[Page[SearchHit]]:
    """The best first, in one query. `q` is written as for web searches: `tea "black tea" or coffee -milk`; the words of
    a hit are in the same passage. Only stop words find nothing.

    Raises InvalidInput for a limit outside 1..200, a cursor that no page gave, and a `q` that only excludes.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"A page has 1 to {MAX_LIMIT} items, not {limit}.")
    rank, kind, identifier = _decode(cursor) if cursor is not None else (None, 0, 0)
    given = {"q": q, "marks": _MARKS, "rows": limit + 1, "rank": rank, "kind": kind, "id": identifier}
    return Query(_PAGE, {**given, **_CANDIDATES}, lambda rows: _page_of(rows, q, limit), is_long=True)


def _page_of(answer: Iterable[Sequence[Any]], q: str, limit: int) -> Page[SearchHit]:
    rows = [_Row(*columns) for columns in answer]
    if rows[0].tree == "T":
        raise InvalidInput(
            f"{q!r} only says what not to find.", hint="Add a word to look for, or leave out the `-` before it."
        )
    if rows[0].kind is None:
        return Page([], None)
    widest_step = _widest_step(rows[0].written)
    found = rows[:limit]
    return Page(
        [_hit(row, widest_step) for row in found],
        _encode(found[-1]) if len(rows) > limit else None,
    )


def _hit(row: _Row, widest_step: int) -> SearchHit:
    shown = row.marked if row.text.isascii() else _marked_as_written(row.marked, row.text)
    return SearchHit(
        "moment" if row.moment_identifier else "transcript",
        row.video_identifier,
        row.video_title,
        row.moment_identifier,
        _said_at(shown, row.word_starts_ms, widest_step) if row.word_starts_ms else row.start_time,
        row.end_time,
        shown,
        row.rank,
    )


def _marked_as_written(marked: str, written: str) -> str:
    """`written` with the marks of `marked`, which is what search sees of it: other letters and punctuation, and as many
    words between spaces."""
    words = map(_marked_word, _SPACE.split(written), _SPACE.split(marked))
    return "".join(word + space for word, space in zip(words, [*_SPACE.findall(written), ""], strict=True))


def _marked_word(written: str, marked: str) -> str:
    """Letter by letter; whole where they are not as many: of a soft hyphen, search sees nothing."""
    if BEGIN_MARK not in marked:
        return written
    if len(marked) != len(written) + marked.count(BEGIN_MARK) + marked.count(END_MARK):
        return f"{BEGIN_MARK}{written}{END_MARK}"
    letters = iter(written)
    return "".join(letter if letter in (BEGIN_MARK, END_MARK) else next(letters) for letter in marked)


def _widest_step(query: str) -> int:
    """How far the next word of a phrase is at most, stop words counted; 0 when the query has no phrase."""
    return max((int(step.replace("-", "1")) for step in _PHRASE.findall(query)), default=0)


def _said_at(marked: str, word_starts_ms: list[int], widest_step: int) -> float:
    """When the first marked word is said; of a phrase, whose words are marked elsewhere too, the first of the longest
    row of marked words."""
    if not widest_step:
        before, mark, _ = marked.partition(BEGIN_MARK)
        return word_starts_ms[before.count(" ") if mark else 0] / 1000
    places = [place for place, word in enumerate(marked.split(" ")) if BEGIN_MARK in word]
    if not places:
        return word_starts_ms[0] / 1000
    best, best_length, first = places[0], 1, 0
    for last in range(1, len(places)):
        if places[last] - places[last - 1] > widest_step:
            first = last
        if last - first + 1 > best_length:
            best, best_length = places[first], last - first + 1
    return word_starts_ms[best] / 1000


def _encode(last: _Row) -> str:
    return base64.urlsafe_b64encode(struct.pack(">fBq", last.rank, last.kind, last.id)).decode().rstrip("=")


def _decode(cursor: str) -> tuple[float, int, int]:
    try:
        packed = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
        return struct.unpack(">fBq", packed)
    except (ValueError, binascii.Error, struct.error):
        raise InvalidInput(
            "The cursor is not one that a page gave.", hint="Leave it out to start at the best."
        ) from None
