"""How a clip is shown to a model: by its signed URL, as its bytes, or as still frames with their times.

A URL of this machine's loopback means nothing to a model on another host: it gets the bytes instead, or frames where
those are too many.
"""

import base64
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import urlsplit

from videomoments_dagster.errors import ModelRefused
from videomoments_dagster.models.chat import ImageUrl, Media, VideoUrl
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.protocols import ClipSource


class ClipTooLarge(ModelRefused):
    """More bytes than `max_video_bytes` of the entry."""


_MOST_FRAMES = 24
_CLOSE_MS = 700  # frames nearer than this show the same


def media_of(shown: ClipSource, entry: ModelEntry, places_ms: Sequence[int]) -> list[Media]:
    """The parts of a message that show the clip. Frames are taken at `places_ms` (ms of the source video's clock) and
    evenly between. Raises ClipTooLarge for a clip larger than `max_video_bytes`, and what storage and media raise."""
    if entry.video_transport == "url":
        url = shown.url()
        model_host = entry.ssh_host or urlsplit(entry.base_url).hostname
        if _is_here(model_host) or not _is_here(urlsplit(url).hostname):
            return [VideoUrl(url)]
    if entry.video_transport != "frames":
        with shown.file() as path:
            size_bytes = path.stat().st_size
            if size_bytes <= entry.max_video_bytes:
                return [VideoUrl(f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}")]
            if entry.video_transport == "data":
                raise ClipTooLarge(
                    f"The clip has {size_bytes} bytes; {entry.key} takes {entry.max_video_bytes} as data.",
                    hint="Raise max_video_bytes of the model, or set video_transport to frames.",
                )
    times = _frame_times(shown.span.start_ms, shown.span.end_ms, places_ms)
    pictures = shown.frames(times)
    return [
        ImageUrl(
            f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}",
            caption=f"{(at_ms - shown.span.start_ms) / 1000:.1f} s",
        )
        for at_ms, picture in zip(times, pictures, strict=True)
    ]


def _frame_times(start_ms: int, end_ms: int, places_ms: Sequence[int]) -> list[int]:
    """At most _MOST_FRAMES times inside the clip: the places first, thinned where they are close, then between."""
    wanted = sorted({min(max(place, start_ms), end_ms - 1) for place in places_ms})
    kept: list[int] = []
    for place in wanted:
        if not kept or place - kept[-1] >= _CLOSE_MS:
            kept.append(place)
    if len(kept) > _MOST_FRAMES:
        kept = [kept[round(i * (len(kept) - 1) / (_MOST_FRAMES - 1))] for i in range(_MOST_FRAMES)]
    while len(kept) < _MOST_FRAMES // 2:
        edges = [start_ms, *kept, end_ms]
        before, after = max(pairwise(edges), key=lambda pair: pair[1] - pair[0])
        if after - before < 2 * _CLOSE_MS:
            break
        kept = sorted([*kept, (before + after) // 2])
    return kept


def _is_here(host: str | None) -> bool:
    return host in {"localhost", "::1"} or (host or "").startswith("127.")
