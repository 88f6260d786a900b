"""One injection: videos, a fault at its moment, and what became of them."""

import random
import time
from collections import Counter

from faults.inspection import Verdict, inspect, inspect_deleted, strays
from faults.kinds import Fault, Scene
from faults.site import Site
from videomoments_dagster.requests.stages import Stage

VIDEOS = 2
"""As many as are processed at the same time."""


def inject(site: Site, fault: Fault, aim: Stage | None, name: str, *, seed: int, videos: int = VIDEOS) -> Verdict:
    """Videos of their own, called after `name`, meet `fault` at `aim`."""
    names = [f"{name}-{each}" for each in range(videos if fault.submits else 1)]
    scene = Scene(site, names, random.Random(f"{seed}-{name}"))
    asked, transcribed = Counter(site.servers.answered), site.servers.transcribed
    try:
        if fault.submits:
            scene.submit()
            scene.wait_for(aim)
        scene.strike(fault.act)
    except AssertionError as error:  # what this waited for did not come: a finding, too
        scene.remarks.append(f"The fault did not strike: {error}")
    verdict = _inspect_deleted(scene) if fault.deletes else _inspect(scene, fault)
    verdict.broken += scene.remarks
    if fault.restarts and verdict.recovered:
        _restart(scene, verdict)
    elif not fault.deletes:
        unheard = sum(stages.get(Stage.TRANSCRIPTION) != "completed" for stages in scene.stages.values())
        if (heard := site.servers.transcribed - transcribed) > len(names) + unheard:
            verdict.duplicated.append(f"{heard} transcriptions of {len(names)} videos")
        again = {digest: times for digest, times in (site.servers.answered - asked).items() if times > 1}
        verdict.asked_again = sum(times - 1 for times in again.values())
        if any(times > 2 for times in again.values()):
            verdict.duplicated.append(f"A model was asked the same {max(again.values())} times")
    return verdict


def _inspect(scene: Scene, fault: Fault) -> Verdict:
    hit = not all(stages.get(Stage.VIDEO_DOWNLOAD) == "completed" for stages in scene.stages.values())
    return inspect(
        scene.site,
        scene.accepted,
        since=scene.over_at or time.monotonic(),
        allowed=fault.ends,
        fetches=2 if hit else 1,
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
    again = inspect(scene.site, started, since=time.monotonic(), allowed=frozenset({"completed"}), fetches=3)
    for name in ("lost", "duplicated", "broken"):
        getattr(verdict, name).extend(f"started again: {each}" for each in getattr(again, name))
