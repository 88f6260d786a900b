"""Parameters that many operations share, and the refusal of those that none knows."""

from typing import Annotated

from fastapi import Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator

from db.queries.paging import DEFAULT_LIMIT, MAX_LIMIT
from videomoments_dagster.identifiers import validate_identifier

VideoId = Annotated[
    str, Path(description="The video's identifier", examples=["motivation"]), AfterValidator(validate_identifier)
]
MomentId = Annotated[
    str, Path(description="The moment's identifier", pattern="^[0-9a-f]{1,20}$", examples=["9f86d081884c7d65"])
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description=f"Items on a page; {DEFAULT_LIMIT} when not given")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="A key of the client's own: a request repeated with it is answered like the first one",
    ),
]


async def only_known_query(request: Request) -> None:
    """A misspelled query parameter is an error (422), not a filter that silently does nothing."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise RequestValidationError(
            [{"type": "extra_forbidden", "loc": ("query", name), "msg": "Unknown query parameter"} for name in unknown]
        )
