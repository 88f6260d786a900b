"""A stage that does not end by itself while it is held: the source, the models or the store don't answer, or the child
that works for it stands still. What is over all the same was interrupted.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil

from faults.servers import HELD_SECONDS
from faults.site import Site
from videomoments_dagster.requests.stages import Stage

CHILD_STAGES = frozenset({Stage.AUDIO_EXTRACTION, Stage.CLIP_EXTRACTION})
STORE_STAGES = frozenset({Stage.THUMBNAILS})
_LOOK_SECONDS = 0.01


class Hold:
    """What holds `stage`, from before the video is submitted until the block is left."""

    def __init__(self, site: Site, stage: Stage) -> None:
        self._site, self._stage, self._children = site, stage, ExitStack()

    def catch(self, video: str) -> None:
        """Wait until the video is in the stage, and can't leave it."""
        end = time.monotonic() + HELD_SECONDS * 3
        while not self._is_caught(video):
            assert time.monotonic() < end, f"{video} was not caught in {self._stage}"
            time.sleep(_LOOK_SECONDS)

    def _is_caught(self, video: str) -> bool:
        if not self._runs(video):
            return False
        if self._stage in STORE_STAGES:
            self._site.servers.store_hangs = True
        if self._stage not in CHILD_STAGES:
            return True
        for child in self._site.media_children():
            with suppress(psutil.NoSuchProcess):
                child.suspend()
                self._children.callback(_resume, child)
        stopped = [child for child in self._site.media_children() if child.status() == psutil.STATUS_STOPPED]
        if stopped and self._runs(video):
            return True
        self._children.close()
        return False

    def _runs(self, video: str) -> bool:
        return self._site.stages(video).get(self._stage) == "running"

    @contextmanager
    def held(self) -> Iterator["Hold"]:
        with self._site.servers.hangs_in(self._stage), self._children:
            yield self


def _resume(child: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        child.resume()
