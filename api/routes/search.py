"""Search in what is said and in the titles of moments."""

from typing import Annotated

from fastapi import Query

from api import routing
from api.parameters import Cursor, Limit
from api.problems import described
from api.schemas.search import SearchPage, search_page
from api.services import Here
from db.queries import search

router = routing.router(prefix="/api/search", tags=["Search"])


@router.get("", summary="Search transcripts and titles", responses=described())
async def search_transcripts(
    here: Here,
    q: Annotated[
        str,
        Query(
            min_length=1,
            max_length=200,
            description='Words that are said together, or a title has; `"a phrase"`, `or`, and `-` before what not',
            examples=['"small steps" or habits -diet'],
        ),
    ],
    limit: Limit = 20,
    cursor: Cursor = None,
) -> SearchPage:
    """The best first, a page at a time. The words are looked for within some 60 words of speech, in any of their
    English forms."""
    return search_page(await here.database.run(search.page(q, limit=limit, cursor=cursor)))
