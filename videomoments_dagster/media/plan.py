"""Where to cut: decides between copying from a keyframe and re-encoding. No I/O."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from videomoments_dagster.errors import InvalidInput
from videomoments_dagster.media.keyframes import KeyframeIndex

EXTRA_PADDING_SECONDS = 2.5
_SAME_SECONDS = 0.001
_SHORTEST_SECONDS = 0.04


@dataclass(frozen=True)
class CutPlan:
    """Cut [start, end) of the video's clock. `decode_from_seconds` is the keyframe that decoding has to begin at."""

    mode: Literal["copy", "reencode"]
    start_seconds: float
    end_seconds: float
    decode_from_seconds: float


def plan_cut(
    wanted_start_seconds: float,
    wanted_end_seconds: float,
    index: KeyframeIndex,
    extra_padding_seconds: float = EXTRA_PADDING_SECONDS,
) -> CutPlan:
    """Copy from the last keyframe at or before the wanted start when it is near enough, else re-encode from there.

    Times are clamped to the video. Before its first frame a video shows that frame, so a first keyframe serves
    from 0 on even when the sound begins earlier. Raises InvalidInput when nothing of the video lies in the range.
    """
    start = wanted_start_seconds if not wanted_start_seconds < 0 else 0.0  # not-a-number stays, and fails below
    end = min(wanted_end_seconds, index.last_packet_end_seconds)
    if not end - start >= _SHORTEST_SECONDS:  # also when one is not a number
        raise InvalidInput(
            f"{wanted_start_seconds:.3f}-{wanted_end_seconds:.3f} s holds nothing of a video that lasts "
            f"{index.last_packet_end_seconds:.3f} s.",
            hint="Choose a start and an end inside the video.",
        )
    times = index.times_seconds
    before = bisect_right(times, start + _SAME_SECONDS) - 1
    if before < 0:
        opens = bool(times) and times[0] <= index.first_frame_seconds + _SAME_SECONDS
        return CutPlan("copy" if opens and index.copyable else "reencode", start, end, times[0] if opens else 0.0)
    keyframe = times[before]
    if index.copyable and start - keyframe <= extra_padding_seconds:
        return CutPlan("copy", min(keyframe, start), end, keyframe)
    return CutPlan("reencode", start, end, keyframe)
