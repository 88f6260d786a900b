"""Lays decoded sound on a line of samples at the times it carries: gaps become silence, overlaps are left out."""

from collections.abc import Callable

from av import AudioResampler
from av.audio.frame import AudioFrame

_BYTES = 2  # s16
_JITTER_SECONDS = 0.05  # Matroska rounds to 1 ms, FLV jitters more; a real gap is longer


class Placer:
    """Resamples frames to s16 at `rate` and writes exactly `length` samples of each channel, from time 0 on.

    `layout` is `mono` or `stereo`; `write` receives interleaved bytes.
    """

    def __init__(self, rate: int, layout: str, length: int, write: Callable[[bytes], object]) -> None:
        self.rate, self.length = rate, length
        self._layout, self._width = layout, _BYTES * (2 if layout == "stereo" else 1)
        self._write_bytes = write
        self._position = 0
        self._resampler: AudioResampler | None = None
        self._setup: tuple[str, str, int] | None = None

    def add(self, frame: AudioFrame, seconds: float | None) -> None:
        """Place a frame that starts at `seconds`; right after the one before when it is None."""
        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        due = self._position if seconds is None else round(seconds * self.rate)
        moved = abs(due - self._position) > (_JITTER_SECONDS * self.rate if self._position else 0)
        if moved or setup != self._setup:
            self._flush()
            self._resampler, self._setup = AudioResampler("s16", self._layout, self.rate), setup
        if moved and due > self._position:
            self._silence(min(due, self.length) - self._position)
        overlap = max(0, self._position - due) if moved else 0
        frame.pts = None  # or the resampler would fill and trim by itself
        assert self._resampler is not None  # noqa: S101  # the first frame differs from no setup
        for piece in self._resampler.resample(frame):
            overlap = self._write(piece, overlap)

    def finish(self) -> None:
        """Write what the resampler holds, and silence up to the whole length."""
        self._flush()
        self._silence(self.length - self._position)

    @property
    def full(self) -> bool:
        return self._position >= self.length

    def _flush(self) -> None:
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                self._write(piece, 0)
            self._resampler = None

    def _write(self, piece: AudioFrame, skip: int) -> int:
        """Write a piece without its first `skip` samples; returns how many are still to be skipped."""
        take = min(piece.samples - skip, self.length - self._position)
        if take > 0:
            start = skip * self._width
            self._write_bytes(bytes(piece.planes[0])[start : start + take * self._width])
            self._position += take
        return max(0, skip - piece.samples)

    def _silence(self, samples: int) -> None:
        self._position += max(0, samples)
        while samples > 0:
            self._write_bytes(bytes(min(samples, self.rate) * self._width))
            samples -= self.rate
