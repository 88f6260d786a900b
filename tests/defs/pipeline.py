"""Runs the real graph in this process, the way a run worker does."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import dagster as dg

from db.queries import requests as request_queries
from videomoments_dagster.definitions import build_definitions
from videomoments_dagster.defs import jobs
from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.defs.policies import PARTITION_TAG, PIPELINE_TAG, REQUEST_TAG
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.requests.stages import PipelineType


def submit(
    platform: PlatformResource,
    video: str,
    url: str | None,
    config: dict[str, Any] | None = None,
    kind: PipelineType = PipelineType.FULL,
) -> str:
    """The durable row of a request; returns its id."""
    request_id = str(uuid4())
    with platform.database.session() as session:
        request_queries.create(
            session,
            request_id=request_id,
            video_identifier=video,
            source_url=url,
            pipeline_type=kind,
            config=config or {},
        )
    return request_id


def execute(
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    video: str,
    *,
    request_id: str | None = None,
    kind: PipelineType = PipelineType.FULL,
    selection: Sequence[dg.AssetKey] | None = None,
    run_config: Mapping[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    """One run of the pipeline `kind` for `video`. Never raises for a failed run: look at `.success`."""
    instance.add_dynamic_partitions(VIDEOS, [video])
    tags = {REQUEST_TAG: request_id, PIPELINE_TAG: kind.value} if request_id else {}
    job = build_definitions(platform=platform).resolve_job_def(jobs.OF[kind].name)
    return job.execute_in_process(
        instance=instance,
        partition_key=video,
        tags=tags,
        raise_on_error=False,
        asset_selection=selection,
        run_config=run_config,
    )


def execute_checks(platform: PlatformResource, instance: dg.DagsterInstance, video: str) -> dict[str, bool]:
    """All checks of the video alone, as `videomoments check` runs them: whether each passed."""
    job = build_definitions(platform=platform).resolve_job_def(jobs.checks.name)
    result = job.execute_in_process(instance=instance, tags={PARTITION_TAG: video}, raise_on_error=False)
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}


def failure_of(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    """The typed error of the first failed step, as people see it in the Dagster UI."""
    data = result.get_step_failure_events()[0].step_failure_data.user_failure_data
    assert data, result.get_step_failure_events()[0].step_failure_data.error
    return {key: value.value for key, value in data.metadata.items()}
