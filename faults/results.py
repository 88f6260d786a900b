"""Exactly what a video that completed must have: rows by number, objects by name and size."""

import time

from faults.site import Site
from videomoments_dagster.storage import names

_HISTORY_SECONDS = 10.0
"""Until the end of a run that was lost is written down: its successor may be over first."""


def missing(site: Site, video: str, request: str, *, moments: int | None) -> list[str]:
    """What a completed video lacks or has too much of. `moments`: so many, each with its clip and a refined one."""
    wrong = _count(site, "database", "SELECT 1 FROM transcripts t JOIN videos v ON v.id = t.video_id", video, 1)
    refined = "SELECT 1 FROM moments m JOIN videos v ON v.id = m.video_id AND m.is_refined"
    wrong += _count(site, "database", refined, video, moments) if moments is not None else []
    [(clips,)] = site.rows(
        "database",
        "SELECT count(*) FROM clips c JOIN videos v ON v.id = c.video_id WHERE v.identifier = %s",
        video,
    )
    pictures = (
        "SELECT 1 FROM thumbnails t LEFT JOIN clips c ON c.id = t.clip_id"
        " JOIN videos v ON v.id = coalesce(t.video_id, c.video_id)"
    )
    wrong += _count(site, "database", pictures, video, 1 + clips)
    stored = site.objects(video)
    present = set(stored.values())
    needed = {names.audio(video), names.video_thumbnail(video)} | ({names.keyframes(video)} if clips else set())
    wrong += [f"{video} is completed without its object {name}" for name in sorted(needed - present)]
    sizes = site.rows(
        "database",
        "SELECT cloud_url, file_size_kb FROM videos WHERE identifier = %s UNION ALL"
        " SELECT c.cloud_url, c.file_size_kb FROM clips c JOIN videos v ON v.id = c.video_id WHERE v.identifier = %s"
        " UNION ALL SELECT t.cloud_url, t.file_size_kb FROM thumbnails t LEFT JOIN clips c ON c.id = t.clip_id"
        " JOIN videos v ON v.id = coalesce(t.video_id, c.video_id) WHERE v.identifier = %s",
        *[video] * 3,
    )
    for url, said_kb in sizes:
        if url in stored and said_kb != (real_kb := -(-site.size_bytes(stored[url]) // 1024)):
            wrong.append(f"{video}: {stored[url]} has {real_kb} kB, and its row says {said_kb}")
    partitions = site.rows("dagster_database", "SELECT 1 FROM dynamic_partitions WHERE partition = %s", video)
    if len(partitions) != 1:
        wrong.append(f"{video} is completed with {len(partitions)} partitions, not 1")
    requests = site.rows("database", "SELECT state FROM pipeline_requests WHERE request_id = %s", request)
    if requests != [("finished",)]:
        wrong.append(f"{video}: the rows of request {request} are {requests}, not one that is finished")
    return wrong


def history(site: Site, video: str) -> list[str]:
    """Whether there is one row of history for each of the video's runs in Dagster, and for each request that ended
    before a run was made for it."""
    end = time.monotonic() + _HISTORY_SECONDS
    while True:
        of_video = "SELECT run_id FROM run_tags WHERE key = 'dagster/partition' AND value = %s"
        of_request = (
            "SELECT tag.value FROM run_tags tag JOIN run_tags part USING (run_id)"
            " WHERE tag.key = 'videomoments/request_id' AND part.key = 'dagster/partition' AND part.value = %s"
        )
        runs = len(site.rows("dagster_database", of_video, video))
        launched = set(site.rows("dagster_database", of_request, video))
        requests = site.rows("database", "SELECT request_id FROM pipeline_requests WHERE video_identifier = %s", video)
        mine = "SELECT status FROM pipeline_history WHERE split_part(identifier, ':', 2) = %s"
        rows = [status for (status,) in site.rows("database", mine, video)]
        if "running" not in rows and len(rows) == runs + len(set(requests) - launched):
            return []
        if time.monotonic() > end:
            return [
                f"{video} has {runs} runs of {len(launched)} of {len(requests)} requests, and history {sorted(rows)}"
            ]
        time.sleep(0.25)


def _count(site: Site, database: str, statement: str, video: str, expected: int) -> list[str]:
    found = len(site.rows(database, f"{statement} WHERE v.identifier = %s", video))
    table = statement.split()[3]
    return [f"{video} is completed with {found} {table}, not {expected}: {statement}"] * (found != expected)
