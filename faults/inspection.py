"""What must hold of videos when a fault is over: each ended in a state with a name, nothing twice, nothing left."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.results import history, missing
from faults.servers import MOMENTS
from faults.site import ENDED, Site
from videomoments_dagster.storage import names
from videomoments_dagster.temp_files import RESUME, TempFiles

_QUIET_SECONDS = 150.0
_BEAT_SECONDS = 0.25
_NOT_ENDED = "not all ended"
_VERDICT = "lost: "  # the verdict on a run, which nobody may claim any more


@dataclass
class Verdict:
    """`ends` are the videos' states, `asked_again` counts questions that a model answered more than once, `last`
    is what was waited for last. Seconds from the end of the fault until all was over and nothing was left."""

    seconds: float = 0.0
    ends: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    asked_again: int = 0
    last: list[str] = field(default_factory=list)

    @property
    def recovered(self) -> bool:
        return not (self.lost or self.duplicated or self.broken)

    @property
    def violations(self) -> list[str]:
        return [*self.lost, *self.duplicated, *self.broken]


def inspect(
    site: Site,
    accepted: dict[str, str],
    *,
    since: float,
    allowed: frozenset[str],
    again_bytes: int = 0,
    whole: bool = True,
) -> Verdict:
    """Wait until nothing is left of the videos `accepted` (with their requests), and look. They may end as `allowed`;
    `again_bytes` of each source may be sent twice; a completed video is `whole` when it has all its moments. `since` is
    time.monotonic."""
    verdict = Verdict()
    _wait_for_quiet(site, accepted, verdict, since)
    for video, request in accepted.items():
        status = verdict.ends[video]
        if status not in ENDED:
            verdict.lost.append(f"{video} is {status} after {_QUIET_SECONDS:.0f} s")
            continue
        if status not in allowed:
            verdict.broken.append(f"{video} ended {status}: {_error(site, video)}")
        if status in {"failed", "partial"}:
            error = site.status(video)["error"] or {}
            if not (error.get("code") and error.get("message") and "hint" in error) or error["code"] == "failed":
                verdict.broken.append(f"{video} ended {status} without a typed error: {error}")
        _inspect_runs(site, video, request, verdict)
        _inspect_results(site, video, verdict, moments=MOMENTS if whole and status == "completed" else None)
        verdict.broken += history(site, video)
        if status == "completed":
            verdict.broken += missing(site, video, request, moments=MOMENTS if whole else None)
        sent, size = site.servers.sent_bytes[f"/{video}.mp4"], site.servers.video.stat().st_size
        if sent > size + again_bytes:
            verdict.duplicated.append(f"{video}: {sent} bytes of {size} were sent, {again_bytes} twice at most")
    verdict.broken += strays(site)
    return verdict


def inspect_deleted(site: Site, video: str) -> list[str]:
    """What is left of a deleted video."""
    left = [f"object {name}" for name in site.objects(video).values()]
    left += [f"row of {video}"] * len(site.rows("database", "SELECT 1 FROM videos WHERE identifier = %s", video))
    partition = "SELECT 1 FROM dynamic_partitions WHERE partition = %s"
    end = time.monotonic() + 30
    while found := site.rows("dagster_database", partition, video):
        if time.monotonic() > end:
            break
        time.sleep(_BEAT_SECONDS)
    left += [f"partition {video}"] * len(found)
    with site.redis() as client:
        left += [f"key {key}" for key in client.scan_iter(f"pipeline:{video}:*")]
    left += [str(path) for path in temporary(site, video)]
    return [f"{video} was deleted, and left: {', '.join(left)}"] if left else []


def strays(site: Site) -> list[str]:
    """Processes without a parent, and children of the media that outlived their runs."""
    found = {process.pid: process for process in (*site.strays(), *site.media_children())}
    return [f"process {pid} is left: {' '.join(process.cmdline())[:120]}" for pid, process in found.items()]


def _wait_for_quiet(site: Site, accepted: dict[str, str], verdict: Verdict, since: float) -> None:
    end = time.monotonic() + _QUIET_SECONDS
    while True:
        verdict.ends = {video: site.status(video)["status"] for video in accepted}
        left = [] if set(verdict.ends.values()) <= ENDED else [_NOT_ENDED]
        left = left or _left(site, accepted, verdict.ends)
        if not left or time.monotonic() > end:
            break
        verdict.last = [each for each in left if each != _NOT_ENDED]
        time.sleep(_BEAT_SECONDS)
    verdict.seconds = time.monotonic() - since
    if left and left != [_NOT_ENDED]:
        verdict.broken += left


def _left(site: Site, accepted: dict[str, str], ends: dict[str, str]) -> list[str]:
    """What a run holds while it lives, and nobody after it."""
    runs = [run for request in accepted.values() for run, _, _ in _runs(site, request)]
    slots = "SELECT run_id FROM concurrency_slots WHERE run_id = ANY(%s) UNION SELECT run_id FROM pending_steps"
    taken = [run for (run,) in site.rows("dagster_database", slots, runs)]
    active = site.rows(
        "database",
        "SELECT video_identifier, state FROM pipeline_requests WHERE request_id = ANY(%s) AND state <> 'finished'",
        list(accepted.values()),
    )
    with site.redis() as client:
        locks = [f"pipeline:{video}:lock" for video in accepted if client.exists(f"pipeline:{video}:lock")]
        leases = [f"run:{run}:lease" for run in runs]
        held: Any = client.mget(leases) if leases else []
    kept = [key for key, value in zip(leases, held, strict=True) if value and not value.startswith(_VERDICT)]
    return [
        *(f"slot of run {run} is taken" for run in taken if run in runs),
        *(f"request of {video} is {state}" for video, state in active),
        *(f"{key} stays" for key in [*locks, *kept]),
        *(
            f"{path} is left"
            for video in accepted
            for path in temporary(site, video)
            if ends[video] == "completed" or not (path / RESUME).exists()
        ),
        *["a temporary directory is in use"] * TempFiles(site.home / "temp", 0).stats().all.in_use,
    ]


def temporary(site: Site, video: str) -> list[Path]:
    return list((site.home / "temp").glob(f"*/{video}/*"))


def _runs(site: Site, request: str) -> list[tuple[str, str, str]]:
    """Id, status and first ancestor of a request's runs."""
    rows = site.rows(
        "dagster_database",
        "SELECT run_id, status, (SELECT value FROM run_tags root WHERE root.run_id = runs.run_id AND"
        " root.key = 'dagster/root_run_id') FROM runs JOIN run_tags tags USING (run_id)"
        " WHERE tags.key = 'videomoments/request_id' AND tags.value = %s",
        request,
    )
    return [(run, status, root or run) for run, status, root in rows]


def _inspect_runs(site: Site, video: str, request: str, verdict: Verdict) -> None:
    """One chain of runs a request, one success at most, and no step that was done is done again."""
    runs = _runs(site, request)
    if len({root for _, _, root in runs}) > 1:
        verdict.duplicated.append(f"{video} has {len(runs)} runs that are no retries of one another")
    if sum(status == "SUCCESS" for _, status, _ in runs) > 1:
        verdict.duplicated.append(f"{video} succeeded in {len(runs)} runs")
    done = site.rows(
        "dagster_database",
        "SELECT step_key FROM event_logs WHERE run_id = ANY(%s) AND dagster_event_type = 'STEP_SUCCESS'",
        [run for run, _, _ in runs],
    )
    twice = [step for step, times in Counter(step for (step,) in done).items() if times > 1]
    verdict.duplicated += [f"{video}: step {step} succeeded more than once" for step in twice]


def _inspect_results(site: Site, video: str, verdict: Verdict, *, moments: int | None) -> None:
    """Every object has a row that names it, every row its object."""
    rows = site.rows("database", "SELECT id, cloud_url FROM videos WHERE identifier = %s", video)
    if len(rows) > 1:
        verdict.duplicated.append(f"{len(rows)} rows of {video}")
    ids = [id_ for id_, _ in rows]
    found = site.objects(video)
    urls = [url for _, url in rows]
    urls += _column(site, "SELECT cloud_url FROM clips WHERE video_id = ANY(%s)", ids)
    urls += _column(
        site,
        "SELECT t.cloud_url FROM thumbnails t LEFT JOIN clips c ON c.id = t.clip_id"
        " WHERE coalesce(t.video_id, c.video_id) = ANY(%s)",
        ids,
    )
    verdict.broken += [f"{video}: row without its object {url}" for url in sorted(set(urls) - set(found))]
    derived = {names.audio(video), names.keyframes(video)} if rows else set()
    unnamed = {found[url] for url in set(found) - set(urls)} - derived
    orphans = {name for name in unnamed if not (rows and name.startswith(f"answers/{video}/"))}
    verdict.broken += [f"{video}: object {name} without a row" for name in sorted(orphans)]
    twice = _column(
        site,
        "SELECT count(*) FROM moments WHERE video_id = ANY(%s) GROUP BY start_time, end_time, is_refined, title"
        " HAVING count(*) > 1",
        ids,
    )
    if twice:
        verdict.duplicated.append(f"{video} has {sum(twice)} moments that are alike")
    roots = _column(site, "SELECT count(*) FROM moments WHERE video_id = ANY(%s) AND NOT is_refined", ids)[0]
    clips = _column(site, "SELECT count(*) FROM clips WHERE video_id = ANY(%s)", ids)[0]
    if moments is not None and (roots, clips) != (moments, moments):
        verdict.broken.append(f"{video} is completed with {roots} moments and {clips} clips, not {moments}")


def _column(site: Site, statement: str, ids: Iterable[int]) -> list[Any]:
    return [value for (value,) in site.rows("database", statement, list(ids))]


def _error(site: Site, video: str) -> str:
    return json.dumps(site.status(video).get("error"))
