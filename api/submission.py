"""The one place that turns a wish into a request: a row first, then lock, status and stream message.

The row is the truth. When Redis fails after the commit the answer is the same: the reconcile sensor publishes again.
"""

import logging
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from api.activity import refuse_if_active
from api.services import Services
from db.models import PipelineRequest
from db.queries import moments, requests, runs, transcripts, videos
from videomoments_dagster import logs
from videomoments_dagster.address_guard import validate_url
from videomoments_dagster.errors import Conflict, InvalidConfig, NotFound, ServiceUnavailable, StageInputMissing
from videomoments_dagster.identifiers import (
    canonical_url,
    distinct_identifier,
    identifier_from_url,
    slug,
    validate_identifier,
)
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import STAGES_OF, PipelineType
from videomoments_dagster.requests.stream import StartMessage
from videomoments_dagster.storage import names
from videomoments_dagster.webhooks import Webhook

_log = logging.getLogger("videomoments.api")


@dataclass(frozen=True, slots=True)
class Submission:
    """`already_processed`: nothing was started; `request_id` is then the one that made the video, if it is known."""

    video_id: str
    request_id: str | None
    already_processed: bool = False
    pipeline_type: PipelineType = PipelineType.FULL


def submit_url(
    services: Services,
    url: str,
    *,
    identifier: str | None,
    config: PipelineConfig,
    idempotency_key: str | None,
    webhook: Webhook | None = None,
) -> Submission:
    """Ask for the whole pipeline. Raises AddressRefused, InvalidIdentifier, Conflict, ServiceUnavailable."""
    validate_url(url, allow_private=services.settings.allow_private_urls, ports=services.settings.fetch_ports)
    source_url = canonical_url(url)
    wanted = validate_identifier(identifier) if identifier else None
    with services.database.session() as session:
        if repeated := first_answer(session, idempotency_key, source_url, PipelineType.FULL, webhook, config):
            return repeated
        known = videos.by_source_url(session, source_url)
        if known and _is_processed(session, known.identifier):
            newest = requests.newest(session, known.identifier)
            return Submission(known.identifier, newest.request_id if newest else None, already_processed=True)
        if known:
            requests.lock_video(session, known.identifier)
            video = known.identifier
        else:
            video = _claim(session, wanted, identifier_from_url(source_url), source_url)
        if repeated := first_answer(session, idempotency_key, source_url, PipelineType.FULL, webhook, config):
            return repeated  # the same at the same time: it had the lock first
        row = _create(session, services, video, source_url, PipelineType.FULL, config, idempotency_key, webhook=webhook)
    return _hand_over(services, row)


def submit_file(
    services: Services,
    path: Path,
    *,
    filename: str,
    request_id: str,
    identifier: str | None,
    config: PipelineConfig,
    idempotency_key: str | None,
    webhook: Webhook | None = None,
) -> Submission:
    """Store the file, which nobody writes to any more, as an upload and ask for the whole pipeline. Repeated with the
    `request_id` of a request that was made, it gives that one. Raises as `submit_url` does, and StorageError."""
    wanted = validate_identifier(identifier) if identifier else None
    derived = slug(Path(filename).stem)
    candidates = [wanted] if wanted else [derived, distinct_identifier(derived, request_id)]
    with services.database.session() as session:
        if made := requests.get(session, request_id):
            return Submission(made.video_identifier, made.request_id)  # if its message was lost, reconcile sends it
        if repeated := first_answer(session, idempotency_key, None, PipelineType.FULL, webhook, config):
            return repeated
        services.lock.owner(candidates[0])  # without Redis, say so before the file is copied
        free = [each for each in candidates if requests.taken_identifier(session, each) is None]
    for video in free:
        name = names.upload(video, request_id)
        services.store.put_file(name, path, "application/octet-stream", is_final=True)
        row = None
        try:
            with services.database.session() as session:
                requests.lock_video(session, video)
                if repeated := first_answer(session, idempotency_key, None, PipelineType.FULL, webhook, config):
                    return repeated
                if requests.taken_identifier(session, video) is None:  # else somebody was faster
                    row = _create(
                        session, services, video, None, PipelineType.FULL, config, idempotency_key, request_id, webhook
                    )
        finally:
            if row is None:
                services.store.delete(name)
        if row:
            return _hand_over(services, row)
    with services.database.read() as session:
        if repeated := first_answer(session, idempotency_key, None, PipelineType.FULL, webhook, config):
            return repeated  # it took the identifier after the key was looked for above
    raise _taken(candidates[-1])


def refuse_if_taken(
    services: Services,
    *,
    identifier: str | None,
    config: PipelineConfig,
    idempotency_key: str | None,
    webhook: Webhook | None,
) -> None:
    """Before a file is sent that `submit_file` would not take. Raises Conflict."""
    with services.database.read() as session:
        repeated = first_answer(session, idempotency_key, None, PipelineType.FULL, webhook, config)
        if repeated is None and identifier and requests.taken_identifier(session, identifier) is not None:
            raise _taken(identifier)


def start(
    services: Services,
    video: str,
    pipeline_type: PipelineType,
    config: PipelineConfig,
    idempotency_key: str | None,
    webhook: Webhook | None = None,
) -> Submission:
    """Run the pipeline of a known video again. Raises NotFound, PipelineActive, StageInputMissing."""
    with services.database.session() as session:
        requests.lock_video(session, video)
        if repeated := first_answer(
            session, idempotency_key, None, pipeline_type, webhook, video=video, moment=config.moment
        ):
            return repeated
        row = videos.get(session, video)
        if row is None and not (pipeline_type is PipelineType.FULL and requests.newest(session, video)):
            raise NotFound(f"There is no video {video!r}.", hint="Submit its URL or file first.")
        if row and pipeline_type is PipelineType.MOMENTS_ONLY and transcripts.get(session, row.id) is None:
            raise StageInputMissing(f"Video {video!r} has no transcript yet.")
        if row and pipeline_type is PipelineType.CLIPS_ONLY and not moments.of_video(session, row.id):
            raise StageInputMissing(f"Video {video!r} has no moments to cut.")
        if row and pipeline_type is PipelineType.REFINEMENT_ONLY and not moments.of_video(session, row.id):
            raise StageInputMissing(f"Video {video!r} has no moments to refine.")
        request = _create(session, services, video, None, pipeline_type, config, idempotency_key, webhook=webhook)
    return _hand_over(services, request)


def refine(
    services: Services, video: str, moment: str, config: PipelineConfig, idempotency_key: str | None
) -> Submission:
    """Refine one moment alone, with what the newest request asked for where `config` is silent. Raises NotFound,
    PipelineActive."""
    return _start_alone(services, video, moment, PipelineType.REFINEMENT_ONLY, config, idempotency_key)


def cut(services: Services, video: str, moment: str, idempotency_key: str | None) -> Submission:
    """Cut one moment's clip alone, and make its picture, with the paddings that the newest request asked for. Raises
    NotFound, PipelineActive."""
    nothing = PipelineConfig.parse({})
    return _start_alone(services, video, moment, PipelineType.CLIPS_ONLY, nothing, idempotency_key)


def _start_alone(
    services: Services,
    video: str,
    moment: str,
    pipeline_type: PipelineType,
    config: PipelineConfig,
    idempotency_key: str | None,
) -> Submission:
    """A refined moment stands for its parent."""
    with services.database.read() as session:
        view = moments.require(session, videos.require(session, video), moment)
        newest = requests.newest_for_all_moments(session, video)
    known, given = {**newest.config, "resume": None} if newest else {}, config.model_dump(exclude_unset=True)
    wanted = PipelineConfig.parse({**known, **given, "moment": view.parent_identifier or view.identifier})
    return start(services, video, pipeline_type, wanted, idempotency_key)


def retry(services: Services, video: str, idempotency_key: str | None) -> Submission:
    """Ask for what the last run left undone, with what it was asked for; the same webhook is told. Raises NotFound,
    PipelineActive, and Conflict when the last run completed."""
    with services.database.read() as session:
        newest = requests.newest(session, video)
        last = next(iter(runs.page(session, video, limit=1).items), None)
        if last and (newest is None or last.started_at >= newest.requested_at):
            kind = PipelineType(last.pipeline_type)
        elif newest:
            kind = PipelineType(newest.pipeline_type)
        else:
            raise NotFound(f"There is no video {video!r}.", hint="Submit its URL or file first.")
        if newest and newest.pipeline_type != kind:
            newest = requests.newest_for_all_moments(session, video)
        repeated = requests.by_idempotency_key(session, idempotency_key) if idempotency_key else None
    if last and last.status == "completed" and not repeated:
        raise Conflict(
            f"The last run of video {video!r} completed: nothing is left to retry.",
            hint=f"`videomoments run {video}` does all of it again.",
        )
    wanted = PipelineConfig.parse({**(newest.config if newest else {}), "resume": True})
    told = repeated or newest
    webhook = Webhook(told.webhook_url, told.webhook_secret) if told and told.webhook_url else None
    return start(services, video, kind, wanted, idempotency_key, webhook)


def _claim(session: Session, wanted: str | None, derived: str, source_url: str) -> str:
    """Lock and return the identifier that this URL gets; a derived one that is taken gets a digest of the URL."""
    candidates = [wanted] if wanted else [derived, distinct_identifier(derived, source_url)]
    if claimed := requests.claim(session, candidates, source_url):
        return claimed
    raise _taken(candidates[-1])


def _taken(identifier: str) -> Conflict:
    return Conflict(
        f"The identifier {identifier!r} belongs to another video.", hint="Choose another one, or leave it out."
    )


def _is_processed(session: Session, video: str) -> bool:
    try:
        if videos.overview(video).run(session).summary.has_moments:
            return True
    except NotFound:  # deleted since it was found
        return False
    newest = next(iter(runs.page(session, video, limit=1).items), None)
    return newest is not None and newest.status == "completed"


def first_answer(
    session: Session,
    idempotency_key: str | None,
    source_url: str | None,
    pipeline_type: PipelineType,
    webhook: Webhook | None,
    config: PipelineConfig | None = None,
    *,
    video: str | None = None,
    moment: str | None = None,
) -> Submission | None:
    """When this key has been used; `config` is as the client sent it, None when other requests had a part in it. Raises
    Conflict when the key was used for something else."""
    row = requests.by_idempotency_key(session, idempotency_key) if idempotency_key else None
    if row is None:
        return None
    hook = (webhook.url, webhook.secret) if webhook else (None, None)
    is_same = (
        (row.source_url, row.pipeline_type, row.config.get("moment")) == (source_url, pipeline_type, moment)
        and (row.webhook_url, row.webhook_secret) == hook
        and (config is None or row.config == config.as_json())
        and (video is None or row.video_identifier == video)
    )
    if not is_same:
        raise _used_key()
    return Submission(row.video_identifier, row.request_id, pipeline_type=pipeline_type)


def _create(
    session: Session,
    services: Services,
    video: str,
    source_url: str | None,
    pipeline_type: PipelineType,
    config: PipelineConfig,
    idempotency_key: str | None,
    request_id: str | None = None,
    webhook: Webhook | None = None,
) -> PipelineRequest:
    if config.moment and pipeline_type not in {PipelineType.REFINEMENT_ONLY, PipelineType.CLIPS_ONLY}:
        raise InvalidConfig(
            "config.moment is for the pipeline types refinement_only and clips_only.", hint="Leave it out."
        )
    refuse_if_active(session, services, video)
    wanted = request_id or str(uuid.uuid4())
    row = requests.create(
        session,
        request_id=wanted,
        video_identifier=video,
        source_url=source_url,
        pipeline_type=pipeline_type,
        config=config.as_json(),
        idempotency_key=idempotency_key,
        webhook_url=webhook.url if webhook else None,
        webhook_secret=webhook.secret if webhook else None,
    )
    if row.request_id != wanted:  # by one about another video, at the same time
        raise _used_key()
    return row


def _used_key() -> Conflict:
    return Conflict("This Idempotency-Key was used for another request.", hint="Use a new key for every new request.")


def _hand_over(services: Services, row: PipelineRequest) -> Submission:
    pipeline_type = PipelineType(row.pipeline_type)
    with logs.bound(request_id=row.request_id, video=row.video_identifier):
        _log.info("Request accepted.", extra={"pipeline_type": pipeline_type.value})
    with suppress(ServiceUnavailable):
        services.lock.acquire(row.video_identifier, row.request_id)
        services.status.begin(
            row.video_identifier,
            request_id=row.request_id,
            pipeline_type=pipeline_type,
            stages=STAGES_OF[pipeline_type],
        )
        services.stream.publish(StartMessage.of(row))
    return Submission(row.video_identifier, row.request_id, pipeline_type=pipeline_type)
