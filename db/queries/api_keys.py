"""API keys: their rows, and which of them is good. A key is found by its hash; rows are never deleted."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, exists, func, or_, select, update
from sqlalchemy.orm import Session

from db.models import ApiKey
from db.queries.paging import Keyset, Page

USE_NOTED_EVERY = timedelta(minutes=1)
"""A key in constant use costs one write in this time, whatever the number of processes."""

_COLUMNS = (
    ApiKey.identifier,
    ApiKey.name,
    ApiKey.scope,
    ApiKey.created_at,
    ApiKey.expires_at,
    ApiKey.revoked_at,
    ApiKey.last_used_at,
)


@dataclass(frozen=True, slots=True)
class ApiKeyView:
    """A key without its secret. Times are UTC; `last_used_at` is up to a minute behind."""

    identifier: str
    name: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class GoodKey:
    """`seconds_left` is None for a key that never expires."""

    identifier: str
    scope: str
    seconds_left: float | None


def create(
    session: Session, *, identifier: str, name: str, scope: str, key_hash: str, days: float | None
) -> ApiKeyView:
    """A new key, good for `days`, or for good."""
    row = ApiKey(
        identifier=identifier,
        name=name,
        scope=scope,
        key_hash=key_hash,
        expires_at=func.now() + timedelta(days=days) if days is not None else None,
    )
    session.add(row)
    session.flush()
    return _view(session.execute(select(*_COLUMNS).where(ApiKey.id == row.id)).one())


def find_good(session: Session, key_hash: str) -> GoodKey | None:
    """The key of this hash, unless it is revoked or expired. One query; a use is noted in it, at most once a minute."""
    now = func.now()
    good = (
        ApiKey.key_hash == key_hash,
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now),
    )
    note_use = (
        update(ApiKey)
        .where(*good, or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - USE_NOTED_EVERY))
        .values(last_used_at=now)
        .returning(ApiKey.id)
        .cte("note_use")
    )
    seconds_left = func.extract("epoch", ApiKey.expires_at - now)
    row = session.execute(
        select(ApiKey.identifier, ApiKey.scope, seconds_left).where(*good).add_cte(note_use)
    ).one_or_none()
    if row is None:
        return None
    return GoodKey(row[0], row[1], None if row[2] is None else float(row[2]))


def any_ever(session: Session) -> bool:
    """Whether a key was ever made: also one that has expired or is revoked."""
    return bool(session.scalar(select(exists().select_from(ApiKey))))


def page(session: Session, *, limit: int, cursor: str | None) -> Page[ApiKeyView]:
    """Newest first; those that are no longer good, too."""
    keyset = Keyset(select(*_COLUMNS), time=ApiKey.created_at, identifier=ApiKey.identifier)
    return keyset.fetch(session, limit=limit, cursor=cursor, make=_view)


def revoke(session: Session, identifier: str) -> ApiKeyView | None:
    """For good; the time of the first call stays. None when there is no such key."""
    revoked_at = func.coalesce(ApiKey.revoked_at, func.now())
    changed = update(ApiKey).where(ApiKey.identifier == identifier).values(revoked_at=revoked_at).returning(*_COLUMNS)
    row = session.execute(changed).one_or_none()
    return _view(row) if row else None


def _view(row: Row[Any]) -> ApiKeyView:
    return ApiKeyView(*row)
