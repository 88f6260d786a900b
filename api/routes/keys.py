"""API keys: making, listing and revoking them, by those who have one of scope admin."""

from typing import Annotated

from fastapi import Path

from api import routing
from api.parameters import Cursor, Limit
from api.problems import described
from api.schemas.keys import CreateKey, Key, KeyPage, NewKey, api_key, new_api_key
from api.services import Here
from db.queries import api_keys
from db.queries.paging import DEFAULT_LIMIT
from videomoments_dagster.api_keys import IDENTIFIER, hash_of, new_identifier, new_key
from videomoments_dagster.errors import NotFound

router = routing.router(prefix="/api/admin/keys", tags=["Administration"])


@router.get("", summary="List API keys", responses=described())
def list_keys(here: Here, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> KeyPage:
    """Newest first, without their secrets; those that have expired or are revoked, too."""
    with here.database.read() as session:
        page = api_keys.page(session, limit=limit, cursor=cursor)
    return KeyPage.model_construct(items=[api_key(each) for each in page.items], next_cursor=page.next_cursor)


@router.post("", summary="Make an API key", status_code=201, responses=described())
def create_key(body: CreateKey, here: Here) -> NewKey:
    """Answers the key itself, this once. From the first one on, every operation needs a key, within 5 seconds."""
    key = new_key()
    with here.database.session() as session:
        view = api_keys.create(
            session,
            identifier=new_identifier(),
            name=body.name,
            scope=body.scope,
            key_hash=hash_of(key),
            days=body.expires_days,
        )
    return new_api_key(view, key)


@router.delete("/{key}", summary="Revoke an API key", responses=described(404))
def revoke_key(
    key: Annotated[str, Path(description="The key's `id` in the list", pattern=IDENTIFIER, examples=["5f1c9a03be77"])],
    here: Here,
) -> Key:
    """For good: it is refused within 5 seconds, and stays in the list. Revoking the last one does not open the API."""
    with here.database.session() as session:
        view = api_keys.revoke(session, key)
    if view is None:
        raise NotFound(f"There is no API key {key!r}.", hint="GET /api/admin/keys lists them.")
    return api_key(view)
