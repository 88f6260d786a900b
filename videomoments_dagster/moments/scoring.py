"""Scores of moments, 0 to 10, from what can be measured in the transcript, with a reason in words. No model."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from videomoments_dagster.moments.moment import Score
from videomoments_dagster.moments.text import ANAPHORA, content_stems, tokens
from videomoments_dagster.moments.transcript import Sentence, Transcript, overlapping

_FINAL = (".", "!", "?", "…", '."', '?"')
_PAUSE_MS = 500
_WEIGHTS = {"distinctiveness": 0.35, "cohesion": 0.30, "density": 0.15, "completeness": 0.10, "length": 0.10}

# What is usual, as 0 and as 1: the 2nd and 98th percentile of moments found in 22 talks (19 h)
_DISTINCTIVENESS = (0.52, 0.86)
_COHESION = (0.05, 0.54)
_WORDS_PER_SECOND = (1.2, 3.3)
_FEW = 40
_USUAL = (0.25, 0.85)


@dataclass(frozen=True, slots=True)
class Measures:
    """What a score is made of, each 0..1."""

    distinctiveness: float  # how far its vocabulary is its own, against the rest of the talk
    cohesion: float  # how far its two halves speak of the same
    completeness: float  # whether it starts and ends where a sentence does, and not in mid-thought
    density: float  # words in a second
    length: float  # one to five minutes is best to watch


def score(start_ms: int, end_ms: int, transcript: Transcript) -> Score:
    """How much the span [start_ms, end_ms) is worth watching on its own."""
    inside: list[Sentence] = overlapping(transcript.sentences, start_ms, end_ms)
    if not inside:
        return Score(0, "Nothing is said in it.")
    measures = measure(start_ms, end_ms, inside, transcript)
    parts = (getattr(measures, name) * weight for name, weight in _WEIGHTS.items())
    value = 10 * _stretch(sum(parts), *_USUAL)
    return Score(round(value), _reason(measures, end_ms - start_ms))


def measure(start_ms: int, end_ms: int, inside: Sequence[Sentence], transcript: Transcript) -> Measures:
    stems = [content_stems(s.text) for s in inside]
    here = Counter(stem for sentence in stems for stem in sentence)
    outside = Counter(
        stem
        for s in transcript.sentences
        if s.end_ms <= start_ms or s.start_ms >= end_ms
        for stem in content_stems(s.text)
    )
    half = len(stems) // 2
    first, second = (Counter(stem for sentence in part for stem in sentence) for part in (stems[:half], stems[half:]))
    words = sum(len(tokens(s.text)) for s in inside)
    return Measures(
        distinctiveness=_stretch(1 - _cosine(here, outside), *_DISTINCTIVENESS) if outside else 0.5,
        # few words say little about it: drawn to the middle
        cohesion=0.5 + (_stretch(_cosine(first, second), *_COHESION) - 0.5) * here.total() / (here.total() + _FEW),
        completeness=_completeness(start_ms, end_ms, inside, transcript),
        density=_stretch(1000 * words / (end_ms - start_ms), *_WORDS_PER_SECOND),
        length=_comfort((end_ms - start_ms) / 1000),
    )


def _completeness(start_ms: int, end_ms: int, inside: Sequence[Sentence], transcript: Transcript) -> float:
    """A quarter each: starts with a sentence, not in mid-thought; ends with a sentence, with its full stop or pause."""
    opening = tokens(inside[0].text)
    following = next((s.start_ms for s in transcript.sentences if s.start_ms >= end_ms), None)
    paused = following is None or following - end_ms >= _PAUSE_MS
    return 0.25 * sum(
        (
            start_ms <= inside[0].start_ms,
            bool(opening) and opening[0] not in ANAPHORA,
            end_ms >= inside[-1].end_ms,
            paused or inside[-1].text.rstrip().endswith(_FINAL),
        )
    )


def _cosine(a: Counter[str], b: Counter[str]) -> float:
    shared = sum(math.sqrt(n * b[stem]) for stem, n in a.items() if stem in b)
    return shared / math.sqrt(a.total() * b.total()) if a and b else 0.0


def _stretch(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _comfort(seconds: float) -> float:
    """1 between one and five minutes, falling off to 0 at 5 s and at 20 minutes (on a logarithmic scale)."""
    if seconds < 60:
        return _stretch(math.log(seconds), math.log(5), math.log(60)) if seconds > 0 else 0.0
    return 1 - _stretch(math.log(seconds), math.log(300), math.log(1200))


def _reason(measures: Measures, length_ms: int) -> str:
    said = [
        _grade(measures.distinctiveness, "is about something of its own", "shares its words with the rest of the talk"),
        _grade(measures.cohesion, "keeps to one topic", "wanders between topics"),
        _grade(measures.completeness, "starts and ends cleanly", "starts or ends in mid-thought", 0.5),
        _grade(measures.density, "is dense", "is slow"),
        _grade(measures.length, "", "is short" if length_ms < 60_000 else "is long"),
    ]
    parts = [part for part in said if part] or ["is middling in every respect"]
    sentence = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    return sentence[0].upper() + sentence[1:] + "."


def _grade(value: float, high: str, low: str, low_below: float = 0.35) -> str:
    return high if value >= 0.65 else low if value <= low_below else ""
