"""The part of a source that a clip takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """[start, end) in seconds on the source's clock; decoding begins at the keyframe `decode_from_seconds`."""

    start_seconds: float
    end_seconds: float
    decode_from_seconds: float
