"""Divides a talk into topics: from evidence to spans of sentences. No text, no titles.

A semi-Markov model (evidence at each boundary, a log-normal prior on the length of a topic) gives the probability of
every span of being one topic. What is returned is not the likeliest division but the one that is expected to agree
best with the true one: spans are worth the share of overlap thresholds (tIoU 0.5 to 0.95) they are expected to pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videomoments_dagster.moments.transcript import Sentence

Floats = NDArray[np.float64]

LENGTH_SPREAD = 0.8  # standard deviation of the logarithm of a topic's length
CANDIDATES_PER_TOPIC = 15
_LONGEST_IN_TYPICAL = 6.0
_NEGLIGIBLE = 2e-3


@dataclass(frozen=True, slots=True)
class Topic:
    """Sentences [first, last) and how far they are expected to agree with a true topic, 0..1."""

    first: int
    last: int
    agreement: float


@dataclass(frozen=True, slots=True)
class Limits:
    """Lengths in ms, and how many topics are wanted at least and at most."""

    min_length_ms: int
    max_length_ms: int
    min_count: int
    max_count: int


def divide(sentences: Sequence[Sentence], evidence: Floats, typical_ms: float, limits: Limits) -> list[Topic]:
    """Topics in order, not overlapping, each within the length limits.

    `evidence` is the log-likelihood ratio of a boundary at the start of each sentence. Everything is covered where the
    limits allow. The count is inside its limits unless the lengths forbid it; then it is the nearest possible.
    """
    speech_ms = sum(s.end_ms - s.start_ms for s in sentences)
    wanted = CANDIDATES_PER_TOPIC * max(limits.min_count, speech_ms / typical_ms)
    cuts = _likeliest(evidence, int(wanted) + 1)
    opens = np.array([sentences[i].start_ms for i in cuts], dtype=np.float64)
    closes = np.array([sentences[i - 1].end_ms for i in (*cuts[1:], len(sentences))], dtype=np.float64)
    lattice = _Lattice(opens, closes, max(_LONGEST_IN_TYPICAL * typical_ms, limits.max_length_ms))
    mean_sentence_ms = speech_ms / len(sentences)
    probability = lattice.probabilities(evidence[cuts], typical_ms, mean_sentence_ms)
    worth = lattice.agreement(probability)
    allowed = (lattice.lengths >= limits.min_length_ms) & (lattice.lengths <= limits.max_length_ms)
    spans = lattice.best(np.where(allowed, worth, -np.inf), float(probability.sum()), typical_ms, limits)
    edges = [*cuts.tolist(), len(sentences)]
    return [Topic(edges[i], edges[j], float(worth[j, j - 1 - i])) for i, j in spans]


def _likeliest(evidence: Floats, wanted: int) -> NDArray[np.intp]:
    """Sentences worth considering as starts: the first, and those with the strongest evidence."""
    strongest = np.argsort(-evidence[1:], kind="stable")[:wanted] + 1
    return np.concatenate(([0], np.sort(strongest)))


class _Lattice:
    """All spans between candidate cuts. Row j, column d is the span from cut j-1-d up to cut j."""

    def __init__(self, opens: Floats, closes: Floats, longest_ms: float) -> None:
        self.count = len(opens)
        self.closes = np.concatenate(([opens[0]], closes))
        self.opens = opens
        earliest = np.searchsorted(opens, self.closes[1:] - longest_ms)
        width = max(1, int((np.arange(1, self.count + 1) - earliest).max()))
        rows = np.arange(self.count + 1)[:, None]
        starts = rows - 1 - np.arange(width)[None, :]
        self.exists = (starts >= 0) & (rows > 0)
        self.starts = np.maximum(starts, 0)
        self.lengths = np.where(self.exists, self.closes[:, None] - opens[self.starts], 0.0)
        # one step is always possible, whatever its length, so that every talk has a division
        self.exists[:, 1:] &= self.lengths[:, 1:] <= longest_ms

    def probabilities(self, evidence: Floats, typical_ms: float, mean_sentence_ms: float) -> Floats:
        """How likely each span is one topic of the true division (forward and backward sums).

        The log-normal density of a length times the mean length of a sentence is the probability that the topic
        ends with just this sentence.
        """
        gain = np.concatenate(([0.0], evidence[1:], [0.0]))
        logs = np.log(np.maximum(self.lengths, 1.0))
        prior = -0.5 * ((logs - np.log(typical_ms)) / LENGTH_SPREAD) ** 2 - logs
        prior += np.log(mean_sentence_ms / (LENGTH_SPREAD * np.sqrt(2 * np.pi)))
        scores = np.where(self.exists, prior + gain[:, None], -np.inf)
        width = scores.shape[1]
        forward = np.full(self.count + 1, -np.inf)
        forward[0] = 0.0
        for j in range(1, self.count + 1):
            forward[j] = np.logaddexp.reduce(forward[self.starts[j]] + scores[j])
        backward = np.full(self.count + 1, -np.inf)
        backward[-1] = 0.0
        for i in range(self.count - 1, -1, -1):
            ends = np.arange(i + 1, min(i + width, self.count) + 1)
            backward[i] = np.logaddexp.reduce(scores[ends, ends - 1 - i] + backward[ends])
        return np.exp(forward[self.starts] + scores + backward[:, None] - forward[-1])

    def agreement(self, probability: Floats) -> Floats:
        """For each span, the expected share of the thresholds tIoU 0.5, 0.55 .. 0.95 it passes against the truth.

        Two spans that do not overlap cannot both reach 0.5 with a third, so expectations over spans simply add up.
        """
        j, d = np.nonzero(probability > _NEGLIGIBLE)
        order = np.argsort(self.closes[j], kind="stable")
        j, d = j[order], d[order]
        true_start, true_end, weight = self.opens[self.starts[j, d]], self.closes[j], probability[j, d]
        worth = np.zeros_like(probability)
        for row in range(1, self.count + 1):
            columns = np.nonzero(self.exists[row])[0]
            start, end = self.opens[self.starts[row, columns]][:, None], self.closes[row]
            length = end - start
            # a truth that passes 0.5 ends within one length of our end: [end - length/2, end + length]
            near = slice(*np.searchsorted(true_end, (end - length.max() / 2, end + length.max() + 1)))
            shared = np.minimum(end, true_end[near]) - np.maximum(start, true_start[near])
            union = length + (true_end - true_start)[near] - shared
            passed = np.clip(np.floor((shared / union - 0.5) * 20 + 1e-6) + 1, 0, 10) / 10
            worth[row, columns] = passed @ weight[near]
        return worth

    def best(self, worth: Floats, expected_count: float, typical_ms: float, limits: Limits) -> list[tuple[int, int]]:
        """The spans (start cut, end cut) with the highest expected F1 among all allowed counts.

        Exact: totals[c][j] is the most that c spans up to cut j are worth. What is left out costs as much as a
        perfect topic of typical length would have brought.
        """
        skipped = np.concatenate(([0.0], np.cumsum(self.closes[1:] - self.opens))) / typical_ms
        shortest = max(1.0, float(limits.min_length_ms))
        most = min(limits.max_count, self.count, int((self.closes[-1] - self.opens[0]) / shortest))
        width = 1 + int(np.nonzero(np.isfinite(worth).any(axis=0))[0].max(initial=0))
        starts, worth = self.starts[:, :width], worth[:, :width]
        totals = [-skipped]
        choices: list[NDArray[np.intp]] = []
        for _ in range(most):
            options = totals[-1][starts] + worth
            choice = options.argmax(axis=1)
            reached = np.take_along_axis(options, choice[:, None], axis=1)[:, 0] + skipped
            kept = np.maximum.accumulate(reached)
            choices.append(np.where(reached == kept, choice, -1))
            totals.append(kept - skipped)
        ends = np.array([total[-1] for total in totals])
        counts = np.arange(len(ends))
        value = np.where(np.isfinite(ends) & (counts > 0), 2 * ends / (counts + expected_count), -np.inf)
        within = np.where(counts >= limits.min_count, value, -np.inf)
        if np.isfinite(within).any():
            chosen = int(within.argmax())
        elif np.isfinite(value).any():
            chosen = int(counts[np.isfinite(value)].max())
        else:
            return []
        spans: list[tuple[int, int]] = []
        j = self.count
        for step in range(chosen - 1, -1, -1):
            while choices[step][j] < 0:
                j -= 1
            i = j - 1 - int(choices[step][j])
            spans.append((i, j))
            j = i
        return spans[::-1]
