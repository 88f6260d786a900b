"""Evidence for topic boundaries: for every sentence, how likely a new topic starts there. No decisions, no limits.

Four kinds of evidence: vocabulary that changes (cosine of what was said before and after, over four window lengths;
TextTiling, Hearst 1997), terms that appear or are over with, words with which people open a topic, and pauses.
Windows are fractions of the talk's typical topic length, so a talk of 90 seconds is read like one of two hours.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from videomoments_dagster.moments.text import ANAPHORA, content_stems, tokens
from videomoments_dagster.moments.transcript import Sentence

Floats = NDArray[np.float64]

_WINDOWS = (1 / 6, 1 / 3, 2 / 3, 4 / 3)
_BLOCK = 256  # terms handled at once: bounds memory for talks of many hours
_TYPICAL_SECONDS, _TYPICAL_AT_SECONDS, _GROWTH = 180.0, 2400.0, 0.6

_SHORT_PAUSE_MS = 200.0

_WEIGHTS = {
    "depth_0": -0.350,
    "similarity_0": -3.177,
    "depth_1": 1.570,
    "similarity_1": -0.051,
    "depth_2": 1.173,
    "similarity_2": -1.942,
    "depth_3": 1.577,
    "similarity_3": 3.178,
    "new": 0.014,
    "gone": -0.019,
    "acknowledgement": 0.850,
    "so": 0.421,
    "transition": 0.512,
    "anaphora": -0.370,
    "question": 0.370,
    "after_question": 0.315,
    "after_short": 0.234,
}
_BIAS = -1.226

_ACKNOWLEDGED = "okay ok alright cool great thanks thank perfect excellent nice awesome yes right sure"
_ACKNOWLEDGEMENTS = frozenset(_ACKNOWLEDGED.split())
_TRANSITION = re.compile(
    r"\b(next|let'?s|mov(e|ing) (on|to)|another (thing|question|point|topic)|finally"
    r"|last (one|point|thing|question|but)|first (of all|one|thing)|second(ly)?|third(ly)?|fourth|fifth|talk about"
    r"|back to|turn to|jump (in|to|into)"
    r"|get into|start with|begin|one more|questions?|curious|wonder(ing)?|ask|welcome|introduce|topic|speaking of|now"
    r"|wrap up|segue|switch)\b"
)


def typical_length_ms(sentences: Sequence[Sentence]) -> float:
    """How long a topic of this talk is likely to be: grows with the minutes of speech, 25 s at 90 s, 3 min at 40 min.

    Fitted by eye to chapters that people made: longer talks get more chapters, and longer ones.
    """
    seconds = sum(s.end_ms - s.start_ms for s in sentences) / 1000
    return 1000 * _TYPICAL_SECONDS * (max(seconds, 1.0) / _TYPICAL_AT_SECONDS) ** _GROWTH


def evidence(sentences: Sequence[Sentence], typical_ms: float) -> Floats:
    """Log-likelihood ratio of a topic starting at each sentence."""
    found = features(sentences, typical_ms)
    total = np.full(len(sentences), _BIAS)
    for name, weight in _WEIGHTS.items():
        total += weight * found[name]
    return total


def features(sentences: Sequence[Sentence], typical_ms: float) -> dict[str, Floats]:
    """One value for each sentence and kind of evidence; higher is not always likelier."""
    words = [tokens(s.text) for s in sentences]
    return (
        _vocabulary([content_stems(s.text) for s in sentences], sentences, typical_ms)
        | _phrases(words, [s.text for s in sentences])
        | _pauses(sentences)
    )


def _vocabulary(stems: list[tuple[str, ...]], sentences: Sequence[Sentence], typical_ms: float) -> dict[str, Floats]:
    """Depth of the similarity valley at each sentence for every window, and terms that are new or over with."""
    count = len(sentences)
    starts = np.array([s.start_ms for s in sentences], dtype=np.float64)
    spread = Counter(stem for sentence in stems for stem in set(sentence))
    vocabulary = sorted(stem for stem, n in spread.items() if n > 1)
    here = np.arange(count)

    def before(windows: float) -> NDArray[np.intp]:
        return np.searchsorted(starts, starts - windows * typical_ms)

    def after(windows: float) -> NDArray[np.intp]:
        return np.searchsorted(starts, starts + windows * typical_ms)

    sums = np.zeros((len(_WINDOWS), 3, count))
    new, gone = np.zeros(count), np.zeros(count)
    for first in range(0, len(vocabulary), _BLOCK):
        block = vocabulary[first : first + _BLOCK]
        column = {stem: k for k, stem in enumerate(block)}
        cumulative = np.zeros((count + 1, len(block)), dtype=np.float32)
        for row, sentence in enumerate(stems):
            for stem in sentence:
                if stem in column:
                    cumulative[row + 1, column[stem]] += 1
        np.cumsum(cumulative, axis=0, out=cumulative)
        rarity = np.log(count / np.array([spread[stem] for stem in block])).astype(np.float32)

        def said(start: NDArray[np.intp], end: NDArray[np.intp], table: NDArray[np.float32] = cumulative):
            return table[end] - table[start]

        for k, window in enumerate(_WINDOWS):
            left = np.sqrt(said(before(window), here)) * rarity
            right = np.sqrt(said(here, after(window))) * rarity
            sums[k] += (left * right).sum(1), (left * left).sum(1), (right * right).sum(1)
        fresh = (said(before(10 / 3), here) == 0) & (said(here, after(1 / 4)) > 0) & (said(here, after(1)) >= 3)
        spent = (said(here, after(10 / 3)) == 0) & (said(before(1 / 4), here) > 0) & (said(before(1), here) >= 3)
        new += fresh @ rarity
        gone += spent @ rarity
    similarity = sums[:, 0] / (np.sqrt(sums[:, 1] * sums[:, 2]) + 1e-9)
    depths = {}
    for k, window in enumerate(_WINDOWS):
        peaks = _window_maxima(similarity[k], before(window), after(window))
        depths[f"depth_{k}"] = peaks - 2 * similarity[k]
        depths[f"similarity_{k}"] = similarity[k]
    return depths | {"new": new, "gone": gone}


def _window_maxima(values: Floats, first: NDArray[np.intp], last: NDArray[np.intp]) -> Floats:
    """Highest value in the window before each position plus the highest in the window after it."""
    return np.array(
        [
            values[a : i + 1].max() + values[i : max(b, i + 1)].max()
            for i, (a, b) in enumerate(zip(first, last, strict=True))
        ]
    )


def _phrases(words: list[list[str]], texts: list[str]) -> dict[str, Floats]:
    """How sentences begin, and what stands right before and after a sentence's start."""
    count = len(words)
    columns = {name: np.zeros(count) for name in ("acknowledgement", "so", "transition", "anaphora", "question")}
    columns |= {name: np.zeros(count) for name in ("after_question", "after_short")}
    for i, sentence in enumerate(words):
        opening = sentence[:4]
        first = opening[0] if opening else ""
        acknowledged = first in _ACKNOWLEDGEMENTS or opening[:2] == ["all", "right"]
        following = [word for k in range(i, min(i + 3, count)) for word in words[k]][:25]
        columns["acknowledgement"][i] = acknowledged
        columns["so"][i] = first == "so" or (acknowledged and "so" in opening)
        columns["transition"][i] = bool(_TRANSITION.search(" ".join(following)))
        columns["anaphora"][i] = first in ANAPHORA
        columns["question"][i] = any("?" in text for text in texts[i : i + 3])
        if i:
            columns["after_question"][i] = "?" in texts[i - 1]
            columns["after_short"][i] = len(words[i - 1]) <= 4
    return columns


def _pauses(sentences: Sequence[Sentence]) -> dict[str, Floats]:
    """How much longer than this talk's usual pause the one before each sentence is (logarithm, 0 to 2)."""
    ends, starts = (np.array([getattr(s, name) for s in sentences]) for name in ("end_ms", "start_ms"))
    gaps = np.maximum(0, starts[1:] - ends[:-1]) + _SHORT_PAUSE_MS
    usual = np.median(gaps) if len(gaps) else 1.0
    return {"pause": np.concatenate(([0.0], np.clip(np.log(gaps / usual), 0.0, 2.0)))}
