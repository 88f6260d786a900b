"""Live status of a video in the Redis hash `pipeline:{video}:active`: for people who wait, never the truth. When a run
has ended, a copy is kept for a day as `pipeline:{video}:{epoch_ms}`, named by when the run started.

Fields: status, request_id, run_id, pipeline_type, queued_at, started_at, completed_at, error, reason, and for each
stage `{STAGE}_status, _started_at, _completed_at, _progress, _error`. Times are ISO 8601 UTC, progress 0..1, errors
the JSON of `VideoMomentsError.as_dict`. Every change is an event, too (events.py), in the same transaction.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from videomoments_dagster.redis_connection import keys_like, reaching
from videomoments_dagster.requests import events
from videomoments_dagster.requests.stages import Stage

KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class StageStatus:
    """`status` is one of pending, running, completed, failed, skipped."""

    stage: Stage
    status: str
    started_at: str | None
    completed_at: str | None
    progress: float
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """`status` is one of queued, running, completed, failed, partial, cancelled.

    `reason` says why a completed run has no moments; `queue_position` counts from 1 while it is queued, where it was
    asked for.
    """

    video_id: str
    request_id: str | None
    run_id: str | None
    pipeline_type: str
    status: str
    queued_at: str | None
    started_at: str | None
    completed_at: str | None
    error: dict[str, Any] | None
    reason: str | None
    stages: tuple[StageStatus, ...]
    queue_position: int | None = None


def status_key(video: str) -> str:
    """Of the hash that tells what a video's pipeline does."""
    return f"pipeline:{video}:active"


def _run_key(video: str, started_at: datetime) -> str:
    return f"pipeline:{video}:{int(started_at.timestamp() * 1000)}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class LiveStatus:
    """Reads and writes the hash. All methods raise ServiceUnavailable when Redis does not answer."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    def begin(
        self,
        video: str,
        *,
        request_id: str | None,
        pipeline_type: str,
        stages: Iterable[Stage],
        run_id: str | None = None,
    ) -> None:
        """Start afresh: every stage in `stages` pending, the others skipped. Queued until a run reports itself."""
        wanted = set(stages)
        fields: dict[Any, Any] = {
            "status": "running" if run_id else "queued",
            "pipeline_type": pipeline_type,
            "queued_at": _now(),
        }
        if request_id:
            fields["request_id"] = request_id
        if run_id:
            fields |= {"run_id": run_id, "started_at": _now()}
        for stage in Stage:
            fields[f"{stage}_status"] = "pending" if stage in wanted else "skipped"
        with reaching(self._redis), self._redis.pipeline() as batch:
            batch.delete(status_key(video))
            batch.hset(status_key(video), mapping=fields)
            events.tell(batch, video, status_key(video))
            batch.execute()

    def run_started(self, video: str, run_id: str) -> None:
        self._set(video, {"status": "running", "run_id": run_id, "started_at": _now()})

    def skip(self, video: str, stages: Iterable[Stage]) -> None:
        """Stages that this run leaves out, of those that still wait: what is done stays done in a run's retry."""
        known = self.read(video)
        waiting = {each.stage for each in known.stages if each.status == "pending"} if known else set()
        if fields := {f"{stage}_status": "skipped" for stage in stages if stage in waiting}:
            self._set(video, fields)

    def stage_started(self, video: str, stage: Stage) -> None:
        fields: dict[Any, Any] = {f"{stage}_status": "running", f"{stage}_started_at": _now(), f"{stage}_progress": "0"}
        with reaching(self._redis), self._redis.pipeline() as batch:
            batch.hdel(status_key(video), f"{stage}_error", f"{stage}_completed_at")
            batch.hset(status_key(video), mapping=fields)
            events.tell(batch, video, status_key(video))
            batch.execute()

    def stage_progress(self, video: str, stage: Stage, progress: float) -> None:
        """Those who listen are woken; what they missed of it is nobody's loss, and not kept."""
        with reaching(self._redis), self._redis.pipeline() as batch:
            batch.hset(status_key(video), f"{stage}_progress", f"{min(max(progress, 0.0), 1.0):.3f}")
            events.wake(batch, video)
            batch.execute()

    def stage_completed(self, video: str, stage: Stage) -> None:
        fields = {f"{stage}_status": "completed", f"{stage}_completed_at": _now(), f"{stage}_progress": "1"}
        self._set(video, fields)

    def stage_failed(self, video: str, stage: Stage, error: dict[str, Any]) -> None:
        fields = {f"{stage}_status": "failed", f"{stage}_completed_at": _now(), f"{stage}_error": json.dumps(error)}
        self._set(video, fields)

    def note(self, video: str, reason: str) -> None:
        """Say why there is less than one would expect, e.g. no moments."""
        self._set(video, {"reason": reason})

    def belongs_to(self, video: str, *, run_id: str, request_id: str | None) -> bool:
        """Whether the hash tells of this run, of its request (a retry with nothing left but checks never said that it
        runs), or of nothing: a newer request's status is not an older run's to end."""
        known = self.read(video)
        if known is None or known.run_id == run_id:
            return True
        return request_id is not None and known.request_id == request_id

    def finish(self, video: str, status: str, error: dict[str, Any] | None = None) -> None:
        """The run has ended; the hash stays for 24 hours."""
        fields = {**self._end(video, status, error), "completed_at": _now()}
        with reaching(self._redis), self._redis.pipeline() as batch:
            batch.hset(status_key(video), mapping=fields)
            batch.expire(status_key(video), KEPT_SECONDS)
            events.tell(batch, video, status_key(video))
            batch.execute()

    def keep_run(
        self, video: str, started_at: datetime, run_id: str, status: str, error: dict[str, Any] | None = None
    ) -> None:
        """Keep what the hash tells as the details of the run that began at `started_at` and ended as `status`."""
        key = _run_key(video, started_at)
        fields = {**self._end(video, status, error), "run_id": run_id}
        with reaching(self._redis), self._redis.pipeline() as batch:
            batch.copy(status_key(video), key, replace=True)
            batch.hset(key, mapping=fields)
            batch.hsetnx(key, "completed_at", _now())
            batch.expire(key, KEPT_SECONDS)
            batch.execute()

    def forget(self, video: str) -> int:
        """Remove the status, its events and the details of runs; returns how many keys there were. Who listens is not
        told: `wake` does, when what they see then is true."""
        with reaching(self._redis):
            found = self._redis.scan_iter(match=f"pipeline:{video}:*", count=1000)
            keys = [key for key in found if key.rpartition(":")[2].isdecimal()]
            return int(self._redis.delete(status_key(video), events.key(video), *keys))  # pyright: ignore[reportArgumentType]

    def wake(self, video: str) -> None:
        """Those who listen look again: what they are told, without a status here, is what the rows say."""
        with reaching(self._redis), self._redis.pipeline() as batch:
            events.wake(batch, video)
            batch.execute()

    def read(self, video: str) -> PipelineStatus | None:
        """None when nothing is known, e.g. a day after the run ended."""
        return self._read(video, status_key(video))

    def read_run(self, video: str, started_at: datetime) -> PipelineStatus | None:
        """The details of the run that began then; None a day after its end."""
        return self._read(video, _run_key(video, started_at))

    def changes(self, video: str, after: str | None) -> list[tuple[str, PipelineStatus]]:
        """Changes after the event `after` as (id, the status it made), oldest first: all that are kept. Only the newest
        when `after` is None, or an event that is not kept; empty when there are none."""
        with reaching(self._redis):
            found = events.read(self._redis, video, after)
        return [(identifier, status) for identifier, fields in found if (status := of_fields(video, fields))]

    def _read(self, video: str, key: str) -> PipelineStatus | None:
        with reaching(self._redis):
            fields: Any = self._redis.hgetall(key)
        return of_fields(video, fields)

    def unfinished(self) -> Iterator[PipelineStatus]:
        """Every video's that says queued or running, in no order; one may come twice."""
        for video in keys_like(self._redis, *status_key("*").split("*")):
            known = self.read(video)
            if known and known.status in {"queued", "running"}:
                yield known

    def _end(self, video: str, status: str, error: dict[str, Any] | None) -> dict[Any, Any]:
        """What an end changes. A stage that was at work when its process died could not tell that it failed."""
        fields: dict[Any, Any] = {"status": status}
        if error:
            told = json.dumps(error)
            known = self.read(video)
            at_work = [each.stage for each in known.stages if each.status == "running"] if known else []
            fields["error"] = told
            for stage in at_work:
                fields |= {f"{stage}_status": "failed", f"{stage}_error": told, f"{stage}_completed_at": _now()}
        return fields

    def _set(self, video: str, fields: dict[Any, Any]) -> None:
        with reaching(self._redis), self._redis.pipeline() as batch:
            batch.hset(status_key(video), mapping=fields)
            events.tell(batch, video, status_key(video))
            batch.execute()


def of_fields(video: str, fields: Mapping[str, str]) -> PipelineStatus | None:
    """What a hash tells; None of one that is not there, or holds less than a status."""
    if "status" not in fields:
        return None
    return PipelineStatus(
        video_id=video,
        request_id=fields.get("request_id"),
        run_id=fields.get("run_id"),
        pipeline_type=fields.get("pipeline_type", "full"),
        status=fields["status"],
        queued_at=fields.get("queued_at"),
        started_at=fields.get("started_at"),
        completed_at=fields.get("completed_at"),
        error=_json(fields.get("error")),
        reason=fields.get("reason"),
        stages=tuple(_stage(stage, fields) for stage in Stage),
    )


def _stage(stage: Stage, fields: Mapping[str, str]) -> StageStatus:
    return StageStatus(
        stage=stage,
        status=fields.get(f"{stage}_status", "pending"),
        started_at=fields.get(f"{stage}_started_at"),
        completed_at=fields.get(f"{stage}_completed_at"),
        progress=float(fields.get(f"{stage}_progress", 0)),
        error=_json(fields.get(f"{stage}_error")),
    )


def _json(text: str | None) -> dict[str, Any] | None:
    return json.loads(text) if text else None
