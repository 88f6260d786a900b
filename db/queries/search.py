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
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.queries.paging import MAX_LIMIT, Page
from videomoments_dagster.errors import InvalidInput

BEGIN_MARK, END_MARK = "\ue000", "\ue001"
"""Around what matched in `SearchHit.text`: characters of Unicode's private use area, which no transcript means."""

_PREPARE = text(
    # a plan that reads whole tables is never what a page needs, however common PostgreSQL thinks the words are
    "SELECT set_config('enable_seqscan', 'off', true), querytree(query) AS tree, query::text AS written"
    " FROM (SELECT websearch_to_tsquery('english', :q) AS query) AS asked"
)

_CANDIDATES = {"newest_read": 5_000, "newest": 500, "passages": 1_000, "titles": 2_000, "newest_titles": 300}
"""Words that `newest` of the `newest_read` passages stored last have are so common that these alone are ranked: the
index would list most of the library first. Of other words, so many `passages` with them are ranked besides; of moments,
the `newest_titles` among the first `titles` in the index."""
_PHRASE_CANDIDATES = 3_000
"""Passages with all words of a query with phrases, in any order, of which those with the phrases are picked: the index
does not know the order, and reading it takes some 10 us each."""

_PAGE = text("""
WITH asked AS MATERIALIZED (SELECT websearch_to_tsquery('english', :q) AS query),
newest AS MATERIALIZED (
    SELECT id, search FROM (
        SELECT id, search FROM transcript_passages ORDER BY id DESC LIMIT :newest_read
    ) AS last_stored
    WHERE search @@ websearch_to_tsquery('english', :q) LIMIT :newest
),
matching AS MATERIALIZED (
    SELECT passage.id, passage.search FROM transcript_passages AS passage
    WHERE passage.search @@ CAST(:loose AS tsquery) AND (SELECT count(*) FROM newest) < :newest
),
indexed AS MATERIALIZED (
    SELECT * FROM (SELECT * FROM matching LIMIT :checked) AS candidates
    WHERE search @@ websearch_to_tsquery('english', :q) LIMIT :passages
),
titled AS MATERIALIZED (
    SELECT moment.id, moment.title FROM moments AS moment
    WHERE to_tsvector('english', moment.title) @@ websearch_to_tsquery('english', :q)
),
ranked AS (
    SELECT 0 AS kind, id, ts_rank(search, query) AS rank
    FROM asked, (
        SELECT * FROM indexed UNION ALL SELECT * FROM newest WHERE id NOT IN (SELECT id FROM indexed)
    ) AS said
    UNION ALL
    SELECT 1, id, ts_rank(setweight(to_tsvector('english', title), 'A'), query)
    FROM asked, (
        SELECT * FROM (SELECT * FROM titled LIMIT :titles) AS first_titles ORDER BY id DESC LIMIT :newest_titles
    ) AS recent
    WHERE NOT EXISTS (SELECT FROM moments AS child WHERE child.parent_id = recent.id)
),
page AS MATERIALIZED (
    SELECT kind, id, rank FROM ranked
    WHERE CAST(:rank AS float4) IS NULL OR (rank, kind, id) < (CAST(:rank AS float4), :kind, :id)
    ORDER BY rank DESC, kind DESC, id DESC LIMIT :rows
)
SELECT page.kind, page.id, page.rank, video.identifier AS video_identifier, video.title AS video_title,
    moment.identifier AS moment_identifier,
    coalesce(moment.start_time, passage.start_time) AS start_time,
    coalesce(moment.end_time, passage.end_time) AS end_time,
    passage.word_starts_ms,
    ts_headline('english', coalesce(moment.title, passage.text), query, :marks) AS marked
FROM page CROSS JOIN asked
LEFT JOIN transcript_passages AS passage ON page.kind = 0 AND passage.id = page.id
LEFT JOIN transcripts AS transcript ON transcript.id = passage.transcript_id
LEFT JOIN moments AS moment ON page.kind = 1 AND moment.id = page.id
JOIN videos AS video ON video.id = coalesce(moment.video_id, transcript.video_id)
ORDER BY page.rank DESC, page.kind DESC, page.id DESC
""")

_PHRASE = re.compile(r"<(-|\d+)>")
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


def page(session: Session, q: str, *, limit: int, cursor: str | None = None) -> Page[SearchHit]:
    """The best first, in two queries of one transaction (`Database.session`). `q` is written as for web searches:
    `tea "black tea" or coffee -milk`; the words of a hit are in the same passage. Only stop words find nothing.

    Raises InvalidInput for a limit outside 1..200, a cursor that no page gave, and a `q` that only excludes.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"A page has 1 to {MAX_LIMIT} items, not {limit}.")
    rank, kind, identifier = _decode(cursor) if cursor is not None else (None, 0, 0)
    asked = session.execute(_PREPARE, {"q": q}).one()
    if asked.tree == "T":
        raise InvalidInput(
            f"{q!r} only says what not to find.", hint="Add a word to look for, or leave out the `-` before it."
        )
    if not asked.tree:
        return Page([], None)
    widest = _widest_step(asked.written)
    loose = bool(widest) and "!" not in asked.written
    given = {
        "q": q,
        "loose": _PHRASE.sub("&", asked.written) if loose else asked.written,
        "checked": _PHRASE_CANDIDATES if loose else _CANDIDATES["passages"],
        "marks": _MARKS,
        "rows": limit + 1,
    }
    after = {"rank": rank, "kind": kind, "id": identifier}
    rows = session.execute(_PAGE, {**given, **after, **_CANDIDATES}).all()
    found = rows[:limit]
    items = [
        SearchHit(
            "moment" if row.moment_identifier else "transcript",
            row.video_identifier,
            row.video_title,
            row.moment_identifier,
            _said_at(row.marked, row.word_starts_ms, widest) if row.word_starts_ms else row.start_time,
            row.end_time,
            row.marked,
            row.rank,
        )
        for row in found
    ]
    return Page(items, _encode(found[-1].rank, found[-1].kind, found[-1].id) if len(rows) > limit else None)


def _widest_step(query: str) -> int:
    """How far the next word of a phrase is at most, stop words counted; 0 when the query has no phrase."""
    return max((int(step.replace("-", "1")) for step in _PHRASE.findall(query)), default=0)


def _said_at(marked: str, word_starts_ms: list[int], widest_step: int) -> float:
    """When the first marked word is said; of a phrase, whose words are marked elsewhere too, the first of the longest
    row of marked words."""
    places = [place for place, word in enumerate(marked.split(" ")) if BEGIN_MARK in word]
    if not places:
        return word_starts_ms[0] / 1000
    best, best_length, first = places[0], 1, 0
    for last in range(1, len(places) if widest_step else 0):
        if places[last] - places[last - 1] > widest_step:
            first = last
        if last - first + 1 > best_length:
            best, best_length = places[first], last - first + 1
    return word_starts_ms[best] / 1000


def _encode(rank: float, kind: int, identifier: int) -> str:
    return base64.urlsafe_b64encode(struct.pack(">fBq", rank, kind, identifier)).decode().rstrip("=")


def _decode(cursor: str) -> tuple[float, int, int]:
    try:
        packed = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
        return struct.unpack(">fBq", packed)
    except (ValueError, binascii.Error, struct.error):
        raise InvalidInput(
            "The cursor is not one that a page gave.", hint="Leave it out to start at the best."
        ) from None
