"""Evidence for topic boundaries: for every sentence, how likely a new topic starts there. No decisions, no limits.

Four kinds: vocabulary that changes (depth of the valley in the cosine of what is said before and after, over several
windows; TextTiling, Hearst 1997), terms that appear and stay, words with which people open a topic, and pauses.
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

_WINDOWS = (1 / 3, 2 / 3, 4 / 3)
_KNOWN, _SOON, _LATER = 10 / 3, 1 / 4, 1.0  # a new term: not said for 10/3, said within 1/4, three times within 1
_BLOCK = 256  # terms handled at once: bounds memory for talks of many hours
_TYPICAL_SECONDS, _TYPICAL_AT_SECONDS, _GROWTH = 180.0, 2400.0, 0.6

_SHORT_PAUSE_MS = 200.0

# Log-likelihood ratios from logistic regression on 22 talks (19 h) with chapters made by people; the kinds of evidence
# were chosen by leaving out two talks at a time. The bias is half a unit above the fitted one, which suits the measure
# (chapter F1) better. The weight of pauses is set by hand: that data has hardly any.
_WEIGHTS = {
    "valley": 0.60,
    "new_terms": 0.15,
    "acknowledgement": 0.93,
    "transition": 0.55,
    "anaphora": -0.52,
    "question": 0.45,
    "pause": 0.50,
}
_BIAS = 0.10

_ACKNOWLEDGED = "okay ok alright cool great thanks thank perfect excellent nice awesome yes right sure"
_ACKNOWLEDGEMENTS = frozenset(_ACKNOWLEDGED.split())
_TRANSITION = re.compile(
    r"\b(next|let'?s|mov(e|ing) (on|to)|another (thing|question|point|topic)|finally"
    r"|last (one|point|thing|question|but)|(the|our|my) (last|final)"
    r"|first (of all|one|thing)|second(ly)?|third(ly)?|fourth|fifth|talk about"
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
    """One value for each sentence and kind of evidence."""
    valley, new_terms = _vocabulary(sentences, typical_ms)
    return {"valley": valley, "new_terms": new_terms, "pause": _pauses(sentences)} | _phrases(sentences)


def _vocabulary(sentences: Sequence[Sentence], typical_ms: float) -> tuple[Floats, Floats]:
    """Depth of the similarity valley at each sentence, and rarity of the terms that are new there and stay.

    Both in standard deviations of this talk; the depth is the mean over the windows.
    """
    count = len(sentences)
    stems = [content_stems(s.text) for s in sentences]
    starts = np.array([s.start_ms for s in sentences], dtype=np.float64)
    spread = Counter(stem for sentence in stems for stem in set(sentence))
    vocabulary = sorted(stem for stem, n in spread.items() if n > 1)
    here = np.arange(count)
    before = {w: np.searchsorted(starts, starts - w * typical_ms) for w in (*_WINDOWS, _KNOWN)}
    after = {w: np.searchsorted(starts, starts + w * typical_ms) for w in (*_WINDOWS, _SOON, _LATER)}
    sums = np.zeros((len(_WINDOWS), 3, count))
    new_terms = np.zeros(count)
    for first in range(0, len(vocabulary), _BLOCK):
        block = vocabulary[first : first + _BLOCK]
        said = _cumulative_counts(stems, block)
        rarity = np.log(count / np.array([spread[stem] for stem in block])).astype(np.float32)
        for k, window in enumerate(_WINDOWS):
            left = np.sqrt(said[here] - said[before[window]]) * rarity
            right = np.sqrt(said[after[window]] - said[here]) * rarity
            sums[k] += (left * right).sum(1), (left * left).sum(1), (right * right).sum(1)
        unknown = said[here] == said[before[_KNOWN]]
        soon, later = said[after[_SOON]] - said[here], said[after[_LATER]] - said[here]
        new_terms += (unknown & (soon > 0) & (later >= 3)) @ rarity
    similarity = sums[:, 0] / (np.sqrt(sums[:, 1] * sums[:, 2]) + 1e-9)
    depths = [
        _standardized(_window_maxima(similarity[k], before[w], after[w]) - 2 * similarity[k])
        for k, w in enumerate(_WINDOWS)
    ]
    return np.mean(depths, axis=0), _standardized(new_terms)


def _cumulative_counts(stems: Sequence[Sequence[str]], block: Sequence[str]) -> NDArray[np.float32]:
    """Row i, column k: how often stem k of `block` is said before sentence i."""
    column = {stem: k for k, stem in enumerate(block)}
    counts = np.zeros((len(stems) + 1, len(block)), dtype=np.float32)
    for row, sentence in enumerate(stems, 1):
        for stem in sentence:
            if stem in column:
                counts[row, column[stem]] += 1
    return np.cumsum(counts, axis=0, out=counts)


def _standardized(values: Floats) -> Floats:
    return (values - values.mean()) / (values.std() + 1e-9)


def _window_maxima(values: Floats, first: NDArray[np.intp], last: NDArray[np.intp]) -> Floats:
    """Highest value in the window before each position plus the highest in the window after it."""
    return np.array(
        [
            values[a : i + 1].max() + values[i : max(b, i + 1)].max()
            for i, (a, b) in enumerate(zip(first, last, strict=True))
        ]
    )


def _phrases(sentences: Sequence[Sentence]) -> dict[str, Floats]:
    """How sentences begin, and whether something is asked in them or in the two after."""
    words = [tokens(s.text) for s in sentences]
    asked = ["?" in s.text for s in sentences]
    columns = {name: np.zeros(len(words)) for name in ("acknowledgement", "transition", "anaphora", "question")}
    for i, sentence in enumerate(words):
        first = sentence[0] if sentence else ""
        following = " ".join([word for later in words[i : i + 3] for word in later][:25])
        columns["acknowledgement"][i] = first in _ACKNOWLEDGEMENTS or sentence[:2] == ["all", "right"]
        columns["transition"][i] = bool(_TRANSITION.search(following))
        columns["anaphora"][i] = first in ANAPHORA
        columns["question"][i] = any(asked[i : i + 3])
    return columns


def _pauses(sentences: Sequence[Sentence]) -> Floats:
    """How much longer than this talk's usual pause the one before each sentence is (logarithm, 0 to 2)."""
    starts, ends = np.array([(s.start_ms, s.end_ms) for s in sentences], dtype=np.float64).T
    gaps = np.maximum(0.0, starts[1:] - ends[:-1]) + _SHORT_PAUSE_MS
    usual = np.median(gaps) if len(gaps) else 1.0
    return np.concatenate(([0.0], np.clip(np.log(gaps / usual), 0.0, 2.0)))
