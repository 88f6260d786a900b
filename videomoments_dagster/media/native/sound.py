"""Speech recognizers' input: 16 kHz mono, every sample where the video's clock says, as long as the video."""

import wave
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

from av import AudioResampler
from av.audio.frame import AudioFrame
from av.error import FFmpegError

from videomoments_dagster.errors import MediaDamaged, NoAudio
from videomoments_dagster.media.native.measuring import measure_ends
from videomoments_dagster.media.native.source import Source, open_source
from videomoments_dagster.media.native.writing import replacing

SAMPLE_RATE = 16_000
_BYTES_A_SAMPLE = 2
_LONGEST_SECONDS = 24 * 3600.0  # far below RIFF's 4 GB; beyond it, the timestamps are broken
_JITTER_SAMPLES = SAMPLE_RATE // 20  # 50 ms: Matroska rounds to 1 ms, FLV jitters more; a real gap is longer


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
            file.setsampwidth(_BYTES_A_SAMPLE)
            file.setframerate(SAMPLE_RATE)
            track = _Track(file, round(duration * SAMPLE_RATE))
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


class _Track:
    """Resamples frames and lays them at their place: gaps become silence, what overlaps is left out."""

    def __init__(self, file: wave.Wave_write, length: int) -> None:
        self.length = length
        self._file = file
        self._position = 0  # samples written
        self._resampler: AudioResampler | None = None
        self._setup: tuple[str, str, int] | None = None

    def add(self, frame: AudioFrame, seconds: float | None) -> None:
        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        due = self._position if seconds is None else round(seconds * SAMPLE_RATE)
        apart = due - self._position
        if setup != self._setup or abs(apart) > _JITTER_SAMPLES:
            self._flush()
            self._resampler, self._setup = AudioResampler("s16", "mono", SAMPLE_RATE), setup
            apart = due - self._position
            if apart > 0:
                self._silence(min(due, self.length) - self._position)
        overlap = max(0, -apart) if abs(apart) > _JITTER_SAMPLES else 0
        frame.pts = None
        assert self._resampler is not None  # noqa: S101  # the first frame differs from no setup
        for piece in self._resampler.resample(frame):
            overlap = self._write(piece, overlap)

    def finish(self) -> None:
        self._flush()
        self._silence(self.length - self._position)

    def _flush(self) -> None:
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                self._write(piece, 0)
            self._resampler = None

    def _write(self, piece: AudioFrame, skip: int) -> int:
        """Write a piece without its first `skip` samples; returns how many are still to be skipped."""
        take = min(piece.samples - skip, self.length - self._position)
        if take > 0:
            start = skip * _BYTES_A_SAMPLE
            self._file.writeframesraw(bytes(piece.planes[0])[start : start + take * _BYTES_A_SAMPLE])
            self._position += take
        return max(0, skip - piece.samples)

    def _silence(self, samples: int) -> None:
        block = bytes(SAMPLE_RATE * _BYTES_A_SAMPLE)
        self._position += max(0, samples)
        while samples > 0:
            self._file.writeframesraw(block[: samples * _BYTES_A_SAMPLE])
            samples -= SAMPLE_RATE


def _decode(source: Source, track: _Track, on_progress: Callable[[float], None]) -> bool:
    """Decode the whole audio stream onto the track; true when at least one frame was there."""
    audio, heard, reported = source.audio, False, 0.0
    assert audio is not None and audio.time_base is not None  # noqa: S101
    for packet in chain(source.packets(audio), (None,)):  # None: what the decoder still holds
        try:
            frames = audio.decode(packet)
        except FFmpegError:
            continue  # a damaged packet: its time passes in silence
        for frame in frames:
            seconds = None if frame.pts is None else source.clock(frame.pts, frame.time_base)
            track.add(frame, seconds)
            heard = True
            if seconds is not None and seconds - reported > max(1.0, track.length / SAMPLE_RATE / 100):
                reported = seconds
                on_progress(min(1.0, seconds * SAMPLE_RATE / max(1, track.length)))
    return heard
