"""Clips as MP4 files, planned by `plan.py` and written in child processes.

Copies of one video share one child; each re-encoding has its own, `settings.clip_processes` at a time.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.logs import carried
from videomoments_dagster.media.keyframes import KeyframeIndex
from videomoments_dagster.media.plan import CutPlan, plan_cut
from videomoments_dagster.media.runner import batch_or_alone, readable, run_media
from videomoments_dagster.processes import Progress, reported
from videomoments_dagster.settings import get_settings


@dataclass(frozen=True)
class CutRequest:
    """The part of the source wanted, seconds on its clock, and the file to make of it. `key` names it in results."""

    key: str
    start_seconds: float
    end_seconds: float
    destination: Path


@dataclass(frozen=True)
class CutResult:
    """A written clip: times on the source's clock as the file holds them, at or before the wanted start."""

    key: str
    destination: Path
    start_seconds: float
    end_seconds: float
    duration_seconds: float
    size_bytes: int
    mode: Literal["copy", "reencode"]
    video_codec: str
    audio_codec: str | None
    resolution: str


@dataclass(frozen=True)
class CutFailure:
    """A clip that could not be made; the others of the batch are not affected."""

    key: str
    error: VideoMomentsError


Outcome = CutResult | CutFailure
_Planned = tuple[CutRequest, CutPlan]


def cut_clips(
    source: Path, cuts: Sequence[CutRequest], index: KeyframeIndex, on_progress: Progress | None = None
) -> list[Outcome]:
    """Cut every request, in their order. Raises DiskFull, and what makes the whole source unusable."""
    source = readable(source)
    outcomes: dict[int, Outcome] = {}
    planned: dict[int, _Planned] = {}
    for number, cut in enumerate(cuts):
        try:
            planned[number] = (cut, plan_cut(cut.start_seconds, cut.end_seconds, index))
        except VideoMomentsError as error:
            outcomes[number] = CutFailure(cut.key, error)
    copies = [number for number, (_, plan) in planned.items() if plan.mode == "copy"]
    batches = [copies] if copies else []
    batches += [[number] for number in planned if number not in set(copies)]
    workers = max(1, min(get_settings().clip_processes, len(batches)))
    threads = max(1, (os.cpu_count() or 1) // workers)
    progress = _Progress(on_progress, len(planned))

    def run(batch: list[int]) -> list[Outcome]:
        report = progress.part(len(batch))
        return batch_or_alone([planned[n] for n in batch], lambda items: _run(source, items, threads, report), _failed)

    with ThreadPoolExecutor(workers, thread_name_prefix="cut") as pool:
        for batch, results in zip(batches, pool.map(carried(run), batches), strict=True):
            outcomes.update(zip(batch, results, strict=True))
    return [outcomes[number] for number in range(len(cuts))]


def _run(source: Path, items: Sequence[_Planned], threads: int, report: Progress) -> list[Outcome]:
    cuts = [{**asdict(plan), "destination": cut.destination.absolute()} for cut, plan in items]
    answers = run_media("cut_clips", path=source, cuts=cuts, threads=threads, on_progress=report)
    return [_outcome(cut, answer) for (cut, _), answer in zip(items, answers, strict=True)]


def _outcome(cut: CutRequest, answer: dict[str, Any]) -> Outcome:
    if error := answer.get("error"):
        return CutFailure(cut.key, reported(error))
    return CutResult(key=cut.key, destination=cut.destination, **answer)


def _failed(item: _Planned, error: VideoMomentsError) -> Outcome:
    return CutFailure(item[0].key, error)


class _Progress:
    """One number out of several children's: each counts as much as it has clips."""

    def __init__(self, on_progress: Callable[[float], None] | None, total: int) -> None:
        self._on_progress, self._total = on_progress, max(1, total)
        self._lock, self._done = Lock(), 0.0

    def part(self, clips: int) -> Progress:
        before = 0.0

        def report(done: float) -> None:
            nonlocal before
            with self._lock:
                self._done += (done - before) * clips / self._total
                before = done
                if self._on_progress:
                    self._on_progress(min(1.0, self._done))

        return report
