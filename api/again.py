"""Parts of a known video's pipeline done anew, with what was asked for before where nothing else is said."""

from sqlalchemy.orm import Session

from api import submission
from api.services import Services
from api.submission import Submission
from db.models import Video
from db.queries import requests, transcripts, videos
from videomoments_dagster.address_guard import validate_url
from videomoments_dagster.identifiers import canonical_url
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.webhooks import Webhook


def again(
    services: Services, video: str, kind: PipelineType, config: PipelineConfig, idempotency_key: str | None
) -> Submission:
    """Run `kind` of the video's pipeline, with what the newest request about all of it asked for where `config` is
    silent. Raises as `submission.start` does."""
    with services.database.read() as session:
        newest = requests.newest_for_all_moments(session, video)
    known = {**newest.config, "resume": None} if newest else {}
    wanted = PipelineConfig.parse({**known, **config.model_dump(exclude_unset=True)})
    return submission.start(services, video, kind, wanted, idempotency_key)


def generate(
    services: Services, url: str, config: PipelineConfig, idempotency_key: str | None, webhook: Webhook | None
) -> Submission:
    """Moments of the video at `url`, as `config` says: of its transcript when it has one, else by the whole pipeline.
    Raises as `submission.submit_url` and `submission.start` do."""
    settings = services.settings
    source_url = canonical_url(validate_url(url, allow_private=settings.allow_private_urls, ports=settings.fetch_ports))
    with services.database.read() as session:
        known = videos.by_source_url(session, source_url)
        if first := _first_answer(session, idempotency_key, source_url, known, webhook, config):
            return first
        heard = known is not None and transcripts.exists(session, known.id)
    if known is not None and heard:
        kind = PipelineType.MOMENTS_ONLY
        return submission.start(services, known.identifier, kind, config, idempotency_key, webhook)
    submitted = submission.submit_url(
        services, url, identifier=None, config=config, idempotency_key=idempotency_key, webhook=webhook
    )
    if not submitted.already_processed:
        return submitted
    return submission.start(services, submitted.video_id, PipelineType.FULL, config, idempotency_key, webhook)


def _first_answer(
    session: Session,
    idempotency_key: str | None,
    source_url: str,
    known: Video | None,
    webhook: Webhook | None,
    config: PipelineConfig,
) -> Submission | None:
    """Of a request that this key made about the URL or its video: what was done then depended on what was there."""
    row = requests.by_idempotency_key(session, idempotency_key) if idempotency_key else None
    if row is None:
        return None
    of_video = row.source_url is None and known is not None and row.video_identifier == known.identifier
    if row.source_url != source_url and not of_video:
        return None
    kind = PipelineType(row.pipeline_type)
    if kind not in {PipelineType.FULL, PipelineType.MOMENTS_ONLY}:
        return None
    return submission.first_answer(session, idempotency_key, row.source_url, kind, webhook, config)
