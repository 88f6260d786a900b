"""Rows without objects and objects without rows, and videos that are no partition. What a row lost is made again by
the pipeline; what no row names is deleted, unless it is young: objects are stored before their rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy.orm import Session

from db.queries import consistency as queries
from db.queries import requests as request_queries
from db.queries.consistency import Promise
from videomoments_dagster.defs.consistency.library import Holding, holdings
from videomoments_dagster.defs.consistency.partitions import missing_partitions
from videomoments_dagster.defs.consistency.report import Kind
from videomoments_dagster.defs.consistency.work import Work, batches
from videomoments_dagster.errors import StorageError, VideoBusy
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.storage.base import ObjectStore, StoredObject

YOUNG_SECONDS = 3600
_WITH_ROWS = ("videos/", "clips/", "thumbnails/")
"""Rooms whose every object a row names. In the others, an object stays as long as its video has a row; in uploads, as
long as its request has."""
_UPLOADS = "uploads/"
_LOST_UPLOAD = "Can't be made again, the video came as an upload: delete it and submit the file again."
_ANOTHER_STORE = "Start the platform with the store that holds it: GCS_BUCKET_NAME, VIDEOMOMENTS_HOME."


@dataclass(frozen=True, slots=True)
class Difference:
    """How rows and objects of a video disagree: names of lost objects, URLs in another store, objects without rows."""

    video: str
    promise: Promise | None
    lost: tuple[str, ...]
    elsewhere: tuple[str, ...]
    unowned: tuple[StoredObject, ...]

    def __bool__(self) -> bool:
        return bool(self.lost or self.elsewhere or self.unowned)


def sweep_library(work: Work) -> None:
    """Everything that is told by a video's rows and objects."""
    for batch in batches(holdings(work.platform)):
        work.findings.videos += len(batch)
        work.findings.objects += sum(len(holding.objects) for holding in batch)
        missing_partitions(work, [holding.video for holding in batch if holding.promise])
        suspects = [found for holding in batch if (found := compare(work.platform.store, holding))]
        if suspects:
            _settle(work, suspects)


def doomed_videos(work: Work) -> tuple[int, int]:
    """How many videos have objects and no row, so that a deletion takes all they have; and how many there are."""
    doomed, total = 0, 0
    for batch in batches(holdings(work.platform)):
        total += len(batch)
        unowned = [compare(work.platform.store, each).unowned for each in batch if each.promise is None]
        uploads = [request for objects in unowned for stored in objects if (request := _request_of(stored))]
        with work.platform.database.read() as session:
            known = queries.requests_of(session, uploads)
        doomed += sum(any(_request_of(stored) not in known for stored in objects) for objects in unowned)
    return doomed, total


def compare(store: ObjectStore, holding: Holding) -> Difference:
    """Uploads are suspects all: their requests are looked up later."""
    promised, elsewhere = _promised(store, holding.promise)
    there = {stored.name for stored in holding.objects}
    oldest_young = datetime.now(UTC) - timedelta(seconds=YOUNG_SECONDS)
    return Difference(
        holding.video,
        holding.promise,
        lost=tuple(sorted(promised - there)),
        elsewhere=elsewhere,
        unowned=tuple(
            stored
            for stored in holding.objects
            if stored.updated_at < oldest_young
            and stored.name not in promised
            and (holding.promise is None or stored.name.startswith((*_WITH_ROWS, _UPLOADS)))
        ),
    )


def _promised(store: ObjectStore, promise: Promise | None) -> tuple[set[str], tuple[str, ...]]:
    """The names of the objects that the rows name, and the URLs that are not in this store."""
    promised, elsewhere = set(), []
    for cloud_url in promise.cloud_urls if promise else ():
        try:
            promised.add(store.name_of(cloud_url))
        except StorageError:
            elsewhere.append(cloud_url)
    return promised, tuple(elsewhere)


def _settle(work: Work, suspects: Sequence[Difference]) -> None:
    database = work.platform.database
    with database.read() as session:
        busy = work.in_work(session, [suspect.video for suspect in suspects])
        work.findings.in_work += len(busy)
        certain = list(_look_again(work, session, [each for each in suspects if each.video not in busy]))
    for difference in certain:
        if not work.findings.fix:
            _report(work, difference, request_id=None)
            continue
        with suppress(VideoBusy), database.session() as session:
            request_queries.lock_video(session, difference.video)  # nobody asks for it until this is done
            if not work.in_work(session, [difference.video]):
                for again in _look_again(work, session, [difference]):
                    _report(work, again, request_id=_ask_again(work, session, again))


def _look_again(work: Work, session: Session, suspects: Sequence[Difference]) -> Iterator[Difference]:
    """What is true of `suspects` still: since rows and objects were listed, a run may have come and gone."""
    store = work.platform.store
    promises = queries.promises_of(session, [suspect.video for suspect in suspects])
    uploads = [_request_of(stored) for suspect in suspects for stored in suspect.unowned]
    known = queries.requests_of(session, [request for request in uploads if request])
    for suspect in suspects:
        stats = [store.stat(stored.name) for stored in suspect.unowned]
        there = tuple(stored for stored in stats if stored and _request_of(stored) not in known)
        promise = promises.get(suspect.video)
        again = compare(store, Holding(suspect.video, promise, there))
        lost = tuple(name for name in again.lost if name in suspect.lost and store.stat(name) is None)
        if difference := replace(again, lost=lost):
            yield difference


def _request_of(stored: StoredObject) -> str | None:
    """The request that an upload belongs to."""
    return stored.name.rpartition("/")[2] if stored.name.startswith(_UPLOADS) else None


def _ask_again(work: Work, session: Session, difference: Difference) -> str | None:
    """Ask for what makes the lost objects again, as the newest request did; the reconcile sensor publishes it. None
    when nothing can."""
    kind, promise = _remedy(work.platform.store, difference), difference.promise
    if kind is None or promise is None:
        return None
    newest = request_queries.newest_for_all_moments(session, difference.video)
    config = {key: value for key, value in (newest.config if newest else {}).items() if key != "resume"}
    return request_queries.create(
        session,
        request_id=str(uuid4()),
        video_identifier=difference.video,
        source_url=promise.source_url if kind is PipelineType.FULL else None,
        pipeline_type=kind.value,
        config=config,
    ).request_id


def _remedy(store: ObjectStore, difference: Difference) -> PipelineType | None:
    """The pipeline that makes the lost objects again, if any can."""
    promise = difference.promise
    if not difference.lost or promise is None or promise.cloud_url in difference.elsewhere:
        return None
    if store.name_of(promise.cloud_url) not in difference.lost:
        return PipelineType.CLIPS_ONLY
    return PipelineType.FULL if promise.source_url else None


def _report(work: Work, difference: Difference, request_id: str | None) -> None:
    findings, store, video, promise = work.findings, work.platform.store, difference.video, difference.promise
    remedy = _remedy(store, difference)
    if remedy:
        fix = f"Asks for the pipeline {remedy} again."
    else:
        fix = _ANOTHER_STORE if promise and promise.cloud_url in difference.elsewhere else _LOST_UPLOAD
    for name in difference.lost:
        findings.add(
            Kind.ROW_WITHOUT_OBJECT,
            video,
            name,
            "A row names it, and it is not there.",
            fix=fix,
            fixed=f"Asked for the pipeline {remedy} again: request {request_id}.",
            mend=(lambda: request_id is not None) if remedy else None,
        )
    for cloud_url in difference.elsewhere:
        wrong = "A row names it, and it is in another store."
        findings.add(Kind.ROW_WITHOUT_OBJECT, video, cloud_url, wrong, fix=_ANOTHER_STORE)
    for stored in difference.unowned:
        findings.add(
            Kind.OBJECT_WITHOUT_ROW,
            video,
            stored.name,
            f"No row names it: {stored.size_kb} kB, stored {stored.updated_at:%Y-%m-%d %H:%M} UTC.",
            fix="Deletes it, with --delete.",
            fixed="Deleted.",
            mend=lambda name=stored.name: store.delete(name),
            deletes=True,
        )
