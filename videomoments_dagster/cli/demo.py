"""`videomoments demo`: the bundled talk through the real path, from an HTTP POST to clips that play."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from videomoments_dagster.cli.api_client import Api
from videomoments_dagster.cli.follow import follow
from videomoments_dagster.cli.options import conclude
from videomoments_dagster.cli.output import console, messages
from videomoments_dagster.cli.platform import show
from videomoments_dagster.cli.videos import show_moments
from videomoments_dagster.errors import NotFound, VideoMomentsError
from videomoments_dagster.media.probe import probe
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.detached import start_detached
from videomoments_dagster.stack.home import Home

SAMPLE = Path(__file__).resolve().parents[2] / "sample" / "talk.mp4"
VIDEO, TITLE = "sample-talk", "Four small habits"


def demo() -> None:
    """Take the bundled talk through every asset and show its moments.

    Starts the platform and stops it again; one that runs already is used and left running.
    """
    if not SAMPLE.is_file():
        raise NotFound(f"The sample talk {SAMPLE} is not there.", hint="Run the demo from a clone of the repository.")
    begun, home = time.monotonic(), Home(get_settings().home)
    ours = not home.running()
    if ours:
        messages().print("Starting the platform: PostgreSQL, Redis, the API and Dagster.")
        os.environ["VIDEOMOMENTS_ALLOW_PRIVATE_URLS"] = "1"  # the talk is served on this machine
        start_detached(home, show)
    get_settings.cache_clear()
    try:
        _process()
        _show(home.running(), stays=not ours)
    finally:
        if ours:
            home.stop()
    console().print(f"Done after {time.monotonic() - begun:.0f} s." + (" Nothing is left running." if ours else ""))


def _process() -> None:
    api = Api()
    try:
        api.delete(f"/api/videos/{VIDEO}")
        messages().print("The talk of an earlier demo is deleted, so that everything is made anew.")
    except VideoMomentsError as error:
        if error.status != 404:
            raise
    with _served() as url:
        messages().print(f"POST {api.url}/api/videos  {url}", soft_wrap=True)
        submitted = _submit(api, url)
        conclude(follow(submitted["video_id"], submitted["request_id"], api=api))


def _submit(api: Api, url: str) -> dict[str, Any]:
    wanted = {"identifier": VIDEO, "title": TITLE}
    try:
        return api.post("/api/videos", {"url": url, "config": {}, **wanted})
    except VideoMomentsError as error:
        if error.code != "address_refused":
            raise
        messages().print("The running platform fetches nothing from this machine; the file is uploaded instead.")
        return api.upload("/api/videos/upload", SAMPLE, wanted)


def _show(running: dict[str, Any], *, stays: bool) -> None:
    api = Api()
    console().print("\nMoments")
    show_moments(api, VIDEO)
    clips = api.get(f"/api/videos/{VIDEO}/clips")
    console().print("\nClips, each fetched from its signed URL and decoded:")
    for clip in clips:
        console().print(f"  {_played(clip)}  {clip['cloud_url']}", soft_wrap=True, markup=False)
    when = "now" if stays else "after `make up`"
    console().print(f"\nTo look at {when}:")
    console().print(f"  Dagster UI  {running['dagster_url']}/assets", soft_wrap=True)
    console().print(f"  API         {running['api_url']}/docs", soft_wrap=True)


def _played(clip: dict[str, Any]) -> str:
    """What the file behind the clip's signed URL holds. Raises MediaError when it does not play."""
    with tempfile.TemporaryDirectory(prefix="videomoments-demo-") as directory:
        path = Path(directory) / "clip.mp4"
        with requests.get(clip["url"], timeout=30, stream=True) as response, path.open("wb") as file:
            response.raise_for_status()
            for chunk in response.iter_content(1 << 20):
                file.write(chunk)
        info = probe(path)
    return f"{info.duration_seconds:5.1f} s  {info.video_codec} {info.resolution}"


@contextmanager
def _served() -> Iterator[str]:
    """The talk on a web server of its own on loopback; yields its URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Its requests are no news."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SAMPLE.parent)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{SAMPLE.name}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
