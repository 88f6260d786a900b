"""The asset `failures`: counted by what can be done about them, listed with the permanent ones first."""

import json

import dagster as dg

from db.queries import runs as run_queries
from tests import factories
from videomoments_dagster.defs.maintenance.failures import failures
from videomoments_dagster.defs.resources import PlatformResource


def _fail(platform: PlatformResource, video: str, minute: int, *, code: str, retryable: bool) -> None:
    error = {
        "stage": "TRANSCRIPTION",
        "code": code,
        "message": "M.",
        "hint": f"Hint of {video}.",
        "retryable": retryable,
    }
    at = factories.minutes_later(minute)
    with platform.database.session() as session:
        factories.request(session, video, state="finished", requested_at=at, error=json.dumps(error))
        run_queries.record(
            session,
            video_identifier=video,
            pipeline_type="full",
            status="failed",
            started_at=at,
            completed_at=at,
            error_stage=error["stage"],
            error_message=f"M. {error['hint']}",
        )


def _materialize(platform: PlatformResource, instance: dg.DagsterInstance):
    result = dg.materialize([failures], instance=instance, resources={"platform": platform})
    [made] = result.asset_materializations_for_node("failures")
    [check] = result.get_asset_check_evaluations()
    return made.metadata, check


def test_failures_are_counted_and_permanent_ones_warned_of(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    metadata, check = _materialize(platform, instance)
    assert (metadata["total"].value, metadata["in_TRANSCRIPTION"].value, check.passed) == (0, 0, True)
    _fail(platform, "passing", 2, code="model_unavailable", retryable=True)
    metadata, check = _materialize(platform, instance)
    assert (metadata["total"].value, metadata["retryable"].value, check.passed) == (1, 1, True)
    _fail(platform, "broken", 1, code="media_damaged", retryable=False)
    metadata, check = _materialize(platform, instance)
    counts = {key: metadata[key].value for key in ("total", "permanent", "retryable", "unknown", "in_TRANSCRIPTION")}
    assert counts == {"total": 2, "permanent": 1, "retryable": 1, "unknown": 0, "in_TRANSCRIPTION": 2}
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    lines = str(metadata["failures"].value).splitlines()[2:]
    assert ["broken" in lines[0], "passing" in lines[1]] == [True, True], "newest first, but permanent before all"
    assert "Hint of broken." in str(check.metadata["failures"].value)
