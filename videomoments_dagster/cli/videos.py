"""`videomoments submit`, `list`, `status`, `moments` and `delete`: videos, through the HTTP API."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.follow import follow, stage_table
from videomoments_dagster.cli.options import clock, conclude, parse_config
from videomoments_dagster.cli.output import console, messages, print_json
from videomoments_dagster.cli.upload import RESUMABLE_FROM_BYTES, upload
from videomoments_dagster.errors import InvalidInput, VideoMomentsError
from videomoments_dagster.identifiers import validate_identifier

_Video = Annotated[str, typer.Argument(help="The video's identifier; `videomoments list` shows them")]
_Json = Annotated[bool, typer.Option("--json", help="For programs")]


def submit(
    source: Annotated[str, typer.Argument(metavar="URL|FILE", help="http(s) address of a media file, or a file here")],
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress and return when it has ended")] = False,
    title: Annotated[str | None, typer.Option(help="Title of the video")] = None,
    identifier: Annotated[str | None, typer.Option(help="What to call it; made of the file name otherwise")] = None,
    config: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Such as max_moments=5")] = None,
    webhook_url: Annotated[str | None, typer.Option(metavar="URL", help="Told when it has ended")] = None,
    webhook_secret: Annotated[
        str | None,
        typer.Option(envvar="VIDEOMOMENTS_WEBHOOK_SECRET", help="What that is signed with"),
    ] = None,
    json_output: _Json = False,
) -> None:
    """Submit a video by its URL or a file."""
    api = Api()
    secret = webhook_secret if webhook_url else None
    given = {"title": title, "identifier": identifier, "webhook_url": webhook_url, "webhook_secret": secret}
    submitted = _submit(
        api, source, {key: value for key, value in given.items() if value is not None}, parse_config(config or [])
    )
    video, request_id = submitted["video_id"], submitted["request_id"]
    if submitted["already_processed"]:
        messages().print(
            f"This URL has been processed as {video}; `videomoments moments {video}` shows its moments.", soft_wrap=True
        )
    elif not wait:
        messages().print(f"Submitted as {video}; `videomoments status {video}` shows how far it is.", soft_wrap=True)
    if submitted["already_processed"] or not wait:
        if json_output:
            print_json(submitted)
        else:
            typer.echo(video)
        return
    status = follow(video, request_id, api=api)
    if json_output:
        print_json(status)
    conclude(status)
    if not json_output:
        show_moments(api, video)


def list_(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first")] = 50,
    query: Annotated[str | None, typer.Option("--query", "-q", help="Part of the title or identifier")] = None,
    json_output: _Json = False,
) -> None:
    """List the videos."""
    videos = Api().items("/api/videos", limit, q=query)
    if json_output:
        print_json(videos)
        return
    table = Table("video", "title", "length", "size", "moments", "added", box=None)
    for video in videos:
        table.add_row(
            video["id"],
            escape(video["title"] or ""),
            clock(video["duration_seconds"]) if video["duration_seconds"] is not None else "",
            f"{video['file_size_kb'] / 1024:.1f} MB" if video["file_size_kb"] is not None else "",
            "yes" if video["has_moments"] else "no",
            video["created_at"][:16].replace("T", " "),
        )
    console().print(table if videos else "No videos yet: `videomoments submit URL|FILE`.")


def status(video: _Video, json_output: _Json = False) -> None:
    """Show how far a video's pipeline is."""
    found = Api().get(f"/api/pipeline/{validate_identifier(video)}/status")
    if json_output:
        print_json(found)
        return
    waits = found["queue_position"] and f"number {found['queue_position']} in the queue"
    remark = waits or found["reason"]
    console().print(f"{video}: {found['status']}" + (f" ({escape(remark)})" if remark else ""))
    console().print(stage_table(found))
    if error := found["error"]:
        console().print(escape(_told(error)), soft_wrap=True)


def moments(video: _Video, json_output: _Json = False) -> None:
    """Show a video's moments."""
    api = Api()
    if json_output:
        print_json(api.get(f"/api/videos/{validate_identifier(video)}/moments"))
    else:
        show_moments(api, validate_identifier(video))


def delete(
    video: _Video,
    force: Annotated[bool, typer.Option("--force", help="Cancel what is queued or running first")] = False,
    json_output: _Json = False,
) -> None:
    """Delete a video with all that was made from it."""
    removed = Api().delete(f"/api/videos/{validate_identifier(video)}", force=force)
    if json_output:
        print_json(removed)
        return
    lines = [f"{removed['objects']} objects, {_megabytes(removed['bytes'])}"]
    lines += [f"  {prefix} {each['objects']}" for prefix, each in removed["by_prefix"].items()]
    lines += [f"{count} rows of {table}" for table, count in removed["rows"].items() if count]
    lines += [f"{removed['requests']} requests, {removed['redis_keys']} keys in Redis"]
    lines += [f"{_megabytes(removed['temp_bytes'])} of temporary files"] if removed["temp_bytes"] else []
    messages().print(f"Deleted {video}:", *lines, "its partition, when Dagster's daemon hears of it", sep="\n")


def _submit(api: Api, source: str, given: dict[str, str], config: dict[str, Any]) -> dict[str, Any]:
    if "://" in source:
        return api.post("/api/videos", {"url": source, "config": config, **given})
    file = Path(source).expanduser()
    if not file.is_file():
        raise InvalidInput(f"{source} is neither a URL nor a file here.", hint="URLs start with http:// or https://.")
    fields = {"config": json.dumps(config), **given}
    if file.stat().st_size >= RESUMABLE_FROM_BYTES:
        return upload(api, file, fields)
    return api.upload("/api/videos/upload", file, fields)


def _megabytes(count: int) -> str:
    return f"{count / 1024**2:.1f} MB"


def _told(error: dict[str, Any]) -> str:
    return f"{error['stage'] or 'pipeline'}: {error['message']} {error['hint']}".strip()


def show_moments(api: Api, video: str) -> None:
    """One line a root moment, with the boundaries of its refinement when it has one; without moments the reason."""
    found = api.get(f"/api/videos/{video}/moments")
    if not found:
        reason = None
        with suppress(VideoMomentsError):  # added by hand: nothing was ever processed
            reason = api.get(f"/api/pipeline/{video}/status")["reason"]
        console().print(f"{video} has no moments." + (f" {escape(reason)}" if reason else ""))
        return
    refined = {each["parent_id"]: each for each in found if each["is_refined"]}
    table = Table("start", "end", "score", "title", box=None)
    for root in (each for each in found if not each["is_refined"] or each["parent_id"] is None):
        shown = refined.get(root["id"], root)
        score = "" if root["score"] is None else str(root["score"])
        table.add_row(clock(shown["start_time"]), clock(shown["end_time"]), score, escape(shown["title"]))
    console().print(table)
