"""Where a video can be cut without re-encoding. Made once a video, kept as a JSON object."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videomoments_dagster.errors import MediaDamaged
from videomoments_dagster.media.runner import readable, run_media


@dataclass(frozen=True)
class KeyframeIndex:
    """Times on the video's clock, seconds, ascending. `copyable` says whether browsers play the stream as it is."""

    times_seconds: tuple[float, ...]
    first_frame_seconds: float
    last_packet_end_seconds: float
    copyable: bool

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "KeyframeIndex":
        """Raises MediaDamaged when the text is not an index."""
        try:
            return cls._from(json.loads(text))
        except (ValueError, TypeError, KeyError):
            raise MediaDamaged(
                "The stored keyframe index can't be read.", hint="Materialize the video again."
            ) from None

    @classmethod
    def _from(cls, fields: dict[str, Any]) -> "KeyframeIndex":
        return cls(**{**fields, "times_seconds": tuple(float(time) for time in fields["times_seconds"])})


def keyframe_index(path: Path) -> KeyframeIndex:
    """Read a video's keyframes from its packets (no decoding). Raises NotAVideo, MediaDamaged, MediaTimeout."""
    return KeyframeIndex._from(run_media("keyframe_index", path=readable(path)))
