"""Parameters that many operations share."""

from typing import Annotated

from fastapi import Header, Path, Query
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
