"""Every video that has rows or objects, in the order of names: rows and the listings of all rooms are read side by side
as one merged stream, so that a library of any size passes through a few pages of memory.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from db.queries import consistency as queries
from db.queries.consistency import Promise
from videomoments_dagster.defs.consistency.work import BATCH
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.storage import names
from videomoments_dagster.storage.base import ObjectStore, StoredObject


@dataclass(frozen=True, slots=True)
class Holding:
    """What there is of one video. `promise` is None when it has no row."""

    video: str
    promise: Promise | None
    objects: tuple[StoredObject, ...]


def holdings(platform: PlatformResource) -> Iterator[Holding]:
    """Raises StorageError and ServiceUnavailable, also in the middle."""
    streams = [_promises(platform), *(_objects(platform.store, room) for room in names.ROOMS)]
    merged = heapq.merge(*streams, key=itemgetter(0))
    for key, group in groupby(merged, key=itemgetter(0)):
        found = [item for _, item in group]
        yield Holding(
            key.removesuffix("/"),
            next((item for item in found if isinstance(item, Promise)), None),
            tuple(item for item in found if isinstance(item, StoredObject)),
        )


def _promises(platform: PlatformResource) -> Iterator[tuple[str, Promise | StoredObject]]:
    last = None
    while True:
        with platform.database.read() as session:
            page = queries.promises_after(session, last, BATCH)
        for promise in page:
            yield f"{promise.identifier}/", promise
        if len(page) < BATCH:
            return
        last = page[-1].identifier


def _objects(store: ObjectStore, room: str) -> Iterator[tuple[str, Promise | StoredObject]]:
    """What lies in the room itself belongs to no video, and is nobody's business here."""
    for stored in store.list(f"{room}/"):
        video, slash, _ = stored.name.removeprefix(f"{room}/").partition("/")
        if slash:
            yield f"{video}/", stored
