"""Where in a recording somebody may be speaking, judged by loudness alone: numbers in, spans out.

What is said there is the recognizer's business (speech_child.py), and so is sorting out music (speech_text.py).
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from videomoments_dagster.moments.moment import Span

RATE_HZ = 16_000
FRAME_MS = 10
_FRAME_SAMPLES = RATE_HZ * FRAME_MS // 1000

# Chosen on four synthetic voices and a recorded talk: every sentence found, and no run in steady noise, tones and hum.
_WINDOW_FRAMES = 1500  # the floor adapts to the 15 s on either side
_BLOCK_FRAMES = 100
_QUIET_PERCENTILE = 8
_LOUD_FRAMES = 25  # as loud as the loudest quarter of a second: one word in half a minute of silence counts
_LEAST_FLOOR_DB = 10.0  # about -80 dBFS; below it lie dither and rounding
_LEAST_CONTRAST_DB = 10.0  # steady sounds stay below, speech reaches 20 and more
_LEAST_RISE_DB = 6.0
_RISE = 0.3
_JOIN_FRAMES = 30
_LEAST_ACTIVE_FRAMES = 8
_MARGIN_FRAMES = 15  # soft first and last consonants; at most half of _JOIN_FRAMES, so runs never overlap
LONGEST_RUN_MS = 20_000
_CUT_SEARCH_FRAMES = 800


def levels(blocks: Iterable[NDArray[np.int16]]) -> NDArray[np.float32]:
    """Loudness of each 10 ms in dB (0 is silence), from consecutive blocks of 16 kHz samples.

    The first difference is taken before, which takes out hum and offset. Blocks other than the last must hold
    whole frames.
    """
    found: list[NDArray[np.float32]] = []
    last = np.float32(0)
    for block in blocks:
        samples = block.astype(np.float32)
        frames = len(samples) // _FRAME_SAMPLES
        if not frames:
            break
        change = np.diff(samples, prepend=last)[: frames * _FRAME_SAMPLES].reshape(frames, _FRAME_SAMPLES)
        found.append(10 * np.log10(np.mean(change**2, axis=1) + 1))
        last = samples[-1]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def speech_runs(level: NDArray[np.float32]) -> list[Span]:
    """Spans that hold more than the background, sorted, apart, each at most LONGEST_RUN_MS long.

    Sound with pauses under 0.3 s stays in one run; a longer run is cut at its quietest places.
    """
    threshold = _thresholds(level)
    active = np.flatnonzero(level > threshold)
    if not len(active):
        return []
    breaks = np.flatnonzero(np.diff(active) > _JOIN_FRAMES)
    runs: list[Span] = []
    for first, last in zip(np.r_[0, breaks + 1], np.r_[breaks, len(active) - 1], strict=True):
        if last - first + 1 < _LEAST_ACTIVE_FRAMES:
            continue
        start = max(0, int(active[first]) - _MARGIN_FRAMES)
        end = min(len(level), int(active[last]) + 1 + _MARGIN_FRAMES)
        edges = [start, *_cuts(level, start, end), end]
        runs += [Span(a * FRAME_MS, b * FRAME_MS) for a, b in pairwise(edges)]
    return runs


def _thresholds(level: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a frame must exceed: above the floor by a share of the contrast around it; infinite without contrast."""
    threshold = np.full(len(level), np.inf, np.float32)
    for block in range(0, len(level), _BLOCK_FRAMES):
        around = level[max(0, block - _WINDOW_FRAMES) : block + _BLOCK_FRAMES + _WINDOW_FRAMES]
        quiet, loud = len(around) * _QUIET_PERCENTILE // 100, max(0, len(around) - _LOUD_FRAMES)
        ordered = np.partition(around, (quiet, loud))
        floor = max(float(ordered[quiet]), _LEAST_FLOOR_DB)
        contrast = float(ordered[loud]) - floor
        if contrast >= _LEAST_CONTRAST_DB:
            threshold[block : block + _BLOCK_FRAMES] = floor + max(_LEAST_RISE_DB, _RISE * contrast)
    return threshold


def _cuts(level: NDArray[np.float32], start: int, end: int) -> list[int]:
    """Frames at which [start, end) is cut so that no piece is too long: the quietest 100 ms near each limit."""
    cuts: list[int] = []
    longest = LONGEST_RUN_MS // FRAME_MS
    while end - start > longest:
        search = level[start + longest - _CUT_SEARCH_FRAMES : start + longest]
        smooth = np.convolve(search, np.ones(10), mode="valid")
        start += longest - _CUT_SEARCH_FRAMES + int(np.argmin(smooth)) + 5
        cuts.append(start)
    return cuts
