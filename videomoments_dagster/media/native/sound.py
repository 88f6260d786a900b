"""Speech recognizers' input: 16 kHz mono, every sample where the video's clock says, as long as the video."""

import wave
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

from av.error import FFmpegError

from videomoments_dagster.errors import MediaDamaged, NoAudio
from videomoments_dagster.media.native.measuring import measure_ends
from videomoments_dagster.media.native.placing import Placer
from videomoments_dagster.media.native.source import Source, open_source
from videomoments_dagster.media.native.writing import replacing

SAMPLE_RATE = 16_000
_LONGEST_SECONDS = 24 * 3600.0  # far below RIFF's 4 GB; beyond it, the timestamps are broken


def extract_audio(path: str, destination: str, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """The fields of AudioInfo; the file appears when it is whole. Raises NoAudio, NotAVideo, MediaDamaged."""
    target = Path(destination)
    with open_source(Path(path)) as source:
        if source.audio is None:
            raise NoAudio(f"{source.name} has no audio track.")
        duration = measure_ends(source).last
        if duration > _LONGEST_SECONDS:
            raise MediaDamaged(f"The timestamps of {source.name} claim {duration / 3600:.0f} hours.")
        with replacing(target) as temporary, wave.open(str(temporary), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            track = Placer(SAMPLE_RATE, "mono", round(duration * SAMPLE_RATE), file.writeframesraw)
            source.rewind()
            heard = _decode(source, track, on_progress)
            track.finish()
        if not heard:
            target.unlink()
            raise MediaDamaged(f"The audio track of {source.name} can't be decoded.")
    return {
        "duration_seconds": track.length / SAMPLE_RATE,
        "size_bytes": target.stat().st_size,
        "sample_rate": SAMPLE_RATE,
    }


def _decode(source: Source, track: Placer, on_progress: Callable[[float], None]) -> bool:
    """Decode the whole audio stream onto the track; true when at least one frame was there."""
    audio, heard, reported = source.audio, False, 0.0
    assert audio is not None and audio.time_base is not None  # noqa: S101
    for packet in chain(source.packets(audio), (None,)):  # None: what the decoder still holds
        try:
            frames = audio.decode(packet)
        except FFmpegError:
            continue  # a damaged packet: its time passes in silence
        for frame in frames:
            seconds = source.frame_seconds(frame)
            track.add(frame, seconds)
            heard = True
            if seconds is not None and seconds - reported > max(1.0, track.length / SAMPLE_RATE / 100):
                reported = seconds
                on_progress(min(1.0, seconds * SAMPLE_RATE / max(1, track.length)))
    return heard
