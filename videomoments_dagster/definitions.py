"""The one entry point that Dagster loads. Wiring only: what belongs to a concept lives in its module of `defs`."""

from typing import Any

import dagster as dg

from videomoments_dagster.defs import checks, jobs, schedules
from videomoments_dagster.defs.assets import (
    audio,
    clips,
    moments,
    refined_moments,
    scores,
    thumbnails,
    transcript,
    video,
)
from videomoments_dagster.defs.logs import redact_errors
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.sensors import cancel, ingest, reconcile, run_status, webhooks


def build_definitions(**overrides: Any) -> dg.Definitions:
    """The platform's definitions; `overrides` replace resources by name, e.g. `platform=` in tests."""
    redact_errors()
    return dg.Definitions(
        assets=[
            video.video,
            audio.audio,
            transcript.transcript,
            moments.moments,
            clips.clips,
            refined_moments.refined_moments,
            scores.scores,
            thumbnails.thumbnails,
            *schedules.ASSETS,
        ],
        asset_checks=checks.ALL,
        jobs=[*jobs.OF.values(), jobs.checks, *schedules.JOBS],
        schedules=schedules.SCHEDULES,
        sensors=[
            ingest.ingest,
            cancel.cancel,
            reconcile.reconcile,
            run_status.run_succeeded,
            run_status.run_failed,
            run_status.run_cancelled,
            webhooks.webhooks,
        ],
        resources={"platform": PlatformResource(), **overrides},
        executor=dg.in_process_executor,
    )


defs = build_definitions()
