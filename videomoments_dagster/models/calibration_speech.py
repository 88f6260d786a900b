"""Asks a speech model about the calibration clip: are words heard where they were said, even past ten minutes?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from videomoments_dagster.models.calibration_fit import Pair, Tolerance, clock, judged, verdict
from videomoments_dagster.models.calibration_media import Shown, speech_clip
from videomoments_dagster.models.calibration_words import hear
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.registry import Verdict
from videomoments_dagster.moments.transcript import Transcript

_TOLERANCE = Tolerance(offset_seconds=0.3, drift_seconds_an_hour=1.0, residual_seconds=0.6)
"""Words move boundaries by tenths of a second. A drift of 1 s an hour is 0.22 s over the clip; the fit finds it to
within 0.3 s an hour (one standard deviation) when every edge jitters by 0.1 s."""
_LEAST_SHARE = 0.5
_LEAST_SPAN_SECONDS = 600.0
_NEAR_SECONDS = 2.0


def check_speech(entry: ModelEntry, listen: Callable[[Path], Transcript], directory: Path) -> Verdict:
    """By 14 sentences at seven places of 13:35, the last at 13:20. `listen` gives times as they are, even impossible
    ones; what it raises goes on to the caller."""
    clip = speech_clip(directory)
    began = time.monotonic()
    transcript = listen(clip.path)
    latency_seconds = time.monotonic() - began
    heard = hear(clip.shown, transcript)
    much = f"{heard.sentences} of {len(clip.shown)} sentences heard"
    edges = sorted(pair.true_seconds for pair in heard.pairs) or [0.0]
    if heard.sentences < _LEAST_SHARE * len(clip.shown) or edges[-1] - edges[0] < _LEAST_SPAN_SECONDS:
        silent = _silent_places(heard.pairs, clip.shown)
        where = f", none of those at {', '.join(silent)}" if heard.pairs and silent else ""
        return verdict(entry, False, f"heard too little; {much}{where}", latency_seconds)
    found = judged(entry, heard.pairs, _TOLERANCE, much, latency_seconds)
    extra = _words_in_silence(transcript, clip.shown)
    if found.trusted and extra:  # no fault of the clock, and good to know
        return replace(found, reason=f"{found.reason} {extra} words were heard where nobody speaks.")
    return found


def _silent_places(pairs: Sequence[Pair], spoken: Sequence[Shown]) -> list[str]:
    heard = {pair.place for pair in pairs}
    starts = {shown.place: shown.start_seconds for shown in reversed(spoken) if shown.place not in heard}
    return [clock(start) for _, start in sorted(starts.items())]


def _words_in_silence(transcript: Transcript, spoken: Sequence[Shown]) -> int:
    near = [(shown.start_seconds - _NEAR_SECONDS, shown.end_seconds + _NEAR_SECONDS) for shown in spoken]
    return sum(not any(start <= word.start_ms / 1000 <= end for start, end in near) for word in transcript.words)
