"""The part of a source that a clip takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """[start, end) in seconds on the source's clock.

    Decoding begins at the keyframe `decode_from_seconds`, or somewhere at or before that time when no keyframe is
    known to be there.
    """

    start_seconds: float
    end_seconds: float
    decode_from_seconds: float
    keyframe_known: bool = True
