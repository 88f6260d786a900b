"""One injection: videos, a fault at its moment, and what became of them."""

import random
import time
from collections import Counter
from contextlib import nullcontext

from faults.holding import Hold
from faults.inspection import Verdict, inspect, inspect_deleted, strays
from faults.kinds import Fault, Scene
from faults.site import Site
from videomoments_dagster.requests.stages import Stage

VIDEOS = 2
"""As many as are processed at the same time."""
RESUMED_BYTES = 1024 * 1024
"""What of a download may come again when the next attempt goes on with it."""
LET_GO_WITHIN_SECONDS = 10.0
"""A run that was held when it was cancelled: its lock, lease and slot are free, its children and files are gone."""


def inject(site: Site, fault: Fault, aim: Stage | None, name: str, *, seed: int, videos: int = VIDEOS) -> Verdict:
    """Videos of their own, called after `name`, meet `fault` at `aim`."""
    held_in = aim if fault.holds else None
    names = [f"{name}-{each}" for each in range(videos if fault.submits and not held_in else 1)]
    scene = Scene(site, names, random.Random(f"{seed}-{name}"))
    asked, transcribed = Counter(site.servers.answered), site.servers.transcribed
    with Hold(site, held_in).held() if held_in else nullcontext() as hold:
        try:
            if fault.submits:
                scene.submit()
                scene.wait_for(aim, hold)
            scene.strike(fault.act)
        except AssertionError as error:  # what this waited for did not come: a finding, too
            scene.remarks.append(f"The fault did not strike: {error}")
        verdict = _inspect_deleted(scene) if fault.deletes else _inspect(scene, fault)
        if held_in and verdict.seconds > LET_GO_WITHIN_SECONDS:
            verdict.broken.append(f"{names[0]} held on for {verdict.seconds:.1f} s after the cancel")
    verdict.broken += scene.remarks
    if fault.restarts and verdict.recovered:
        _restart(scene, verdict)
    elif not fault.deletes:
        unheard = sum(stages.get(Stage.TRANSCRIPTION) != "completed" for stages in scene.stages.values())
        if (heard := site.servers.transcribed - transcribed) > len(names) + unheard:
            verdict.duplicated.append(f"{heard} transcriptions of {len(names)} videos")
        again = {digest: times for digest, times in (site.servers.answered - asked).items() if times > 1}
        verdict.asked_again = sum(times - 1 for times in again.values())
        if scene.struck_at and (in_vain := site.servers.asked_in_vain(scene.struck_at)):
            verdict.duplicated.append(f"{len(in_vain)} questions were asked again whose answers had come")
        if any(times > 2 for times in again.values()):
            verdict.duplicated.append(f"A model was asked the same {max(again.values())} times")
    verdict.broken += site.sweep()
    return verdict


def _inspect(scene: Scene, fault: Fault) -> Verdict:
    hit = not all(stages.get(Stage.VIDEO_DOWNLOAD) == "completed" for stages in scene.stages.values())
    return inspect(
        scene.site,
        scene.accepted,
        since=scene.over_at or time.monotonic(),
        allowed=fault.ends,
        again_bytes=RESUMED_BYTES if hit else 0,
        whole=fault.whole,
    )


def _inspect_deleted(scene: Scene) -> Verdict:
    verdict = Verdict(ends=dict.fromkeys(scene.videos, "deleted"))
    if not scene.remarks:
        verdict.broken += [left for video in scene.videos for left in inspect_deleted(scene.site, video)]
        verdict.broken += strays(scene.site)
    verdict.seconds = time.monotonic() - scene.over_at
    return verdict


def _restart(scene: Scene, verdict: Verdict) -> None:
    started = {video: scene.site.start(video) for video, status in verdict.ends.items() if status == "cancelled"}
    whole = scene.site.servers.video.stat().st_size  # nothing of a cancelled download is kept
    again = inspect(
        scene.site, started, since=time.monotonic(), allowed=frozenset({"completed"}), again_bytes=2 * whole
    )
    for name in ("lost", "duplicated", "broken"):
        getattr(verdict, name).extend(f"started again: {each}" for each in getattr(again, name))
