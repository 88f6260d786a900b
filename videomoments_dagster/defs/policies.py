"""How failures are retried, which pools limit what, and how our errors become Dagster's. No asset logic here."""

import dagster as dg

from videomoments_dagster.errors import InvalidConfig, VideoMomentsError
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.settings import Settings

TRANSIENT = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""For what may succeed later by itself. Permanent failures raise Failure(allow_retries=False) and skip it."""

NO_RUN_RETRY_TAG = "dagster/retry_on_asset_or_op_failure"
PARTITION_TAG = "dagster/partition"
WILL_RETRY_TAG = "dagster/will_retry"
BLOCKED_ERROR = "DagsterAssetCheckFailedError"  # what a blocking check that did not pass raises
REQUEST_TAG = "videomoments/request_id"
PIPELINE_TAG = "videomoments/pipeline_type"

AUDIO_EXTRACTION = "audio_extraction"
TRANSCRIPTION = "transcription"
MOMENT_GENERATION = "moment_generation"
CLIP_EXTRACTION = "clip_extraction"
MOMENT_REFINEMENT = "moment_refinement"


def lock_owner(run: dg.DagsterRun) -> str:
    """The token under which a run holds its video's lock: its request, or, when started in the UI, the first of the
    runs that it is a retry of: a lost run's lock is its retry's."""
    return run.tags.get(REQUEST_TAG) or run.root_run_id or run.run_id


def pool_limits(settings: Settings) -> dict[str, int]:
    """Slots of each pool over all runs; set on the instance by defs/startup.py. Raises InvalidConfig.

    clip_extraction counts assets at work; each cuts up to `settings.clip_processes` clips at once.
    """
    defaults = {
        AUDIO_EXTRACTION: 2,
        TRANSCRIPTION: 2,
        MOMENT_GENERATION: 2,
        CLIP_EXTRACTION: settings.clip_processes,
        MOMENT_REFINEMENT: 1,
    }
    wrong = [pool for pool, slots in settings.pool_limits.items() if pool not in defaults or slots < 1]
    if wrong:
        raise InvalidConfig(
            f"VIDEOMOMENTS_POOL_LIMITS: {', '.join(wrong)} can't be set so.",
            hint=f"The pools are {', '.join(defaults)}; each has at least 1 slot.",
        )
    return defaults | settings.pool_limits


def as_failure(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, stage: Stage, error: VideoMomentsError
) -> dg.Failure:
    """The Dagster Failure for `error`. Three retry mechanisms exist, and a permanent failure must stop all of them:
    `allow_retries` stops the asset's policy, the run tag stops run retries."""
    if not error.retryable:
        context.instance.add_run_tags(context.run.run_id, {NO_RUN_RETRY_TAG: "false"})
    return dg.Failure(
        description=f"{error.message} {error.hint}".strip(),
        metadata={
            "stage": stage.value,
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "retryable": dg.MetadataValue.bool(error.retryable),
        },
        allow_retries=error.retryable,
    )
