"""What search finds: stretches of speech, and moments by their titles."""

import html
from typing import Literal

from pydantic import ConfigDict

from api.schemas.base import Output
from db.queries.paging import Page
from db.queries.search import BEGIN_MARK, END_MARK
from db.queries.search import SearchHit as Hit

_EXAMPLE = {
    "kind": "transcript",
    "video_id": "motivation",
    "video_title": "Motivation",
    "moment_id": None,
    "start_time": 61.24,
    "end_time": 84.5,
    "snippet": "That is why <mark>small</mark> <mark>steps</mark> work better than big plans.",
    "rank": 0.0991,
}


class SearchHit(Output):
    """`snippet` is HTML: what is said there, or the moment's title, escaped, with `<mark>` around what matched.
    `start_time` is when the first word that matched is said, or the start of the moment; seconds. `rank` compares hits
    of one search only."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    kind: Literal["transcript", "moment"]
    video_id: str
    video_title: str | None
    moment_id: str | None
    start_time: float
    end_time: float
    snippet: str
    rank: float


class SearchPage(Output):
    """The best first; `next_cursor` is null on the last page."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_EXAMPLE], "next_cursor": None}})

    items: list[SearchHit]
    next_cursor: str | None


def search_page(page: Page[Hit]) -> SearchPage:
    return SearchPage.model_construct(items=[_hit(each) for each in page.items], next_cursor=page.next_cursor)


def _hit(hit: Hit) -> SearchHit:
    snippet = html.escape(hit.text, quote=False).replace(BEGIN_MARK, "<mark>").replace(END_MARK, "</mark>")
    return SearchHit.model_construct(
        kind=hit.kind,
        video_id=hit.video_identifier,
        video_title=hit.video_title,
        moment_id=hit.moment_identifier,
        start_time=hit.start_time,
        end_time=hit.end_time,
        snippet=snippet,
        rank=hit.rank,
    )
