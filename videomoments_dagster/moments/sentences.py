"""The sentences that moments are built from: none empty, none overlapping, none longer than a moment may be.

Recognizers without punctuation give one 'sentence' per pause, or none at all; both end up here as sentences.
"""

from collections.abc import Sequence

from videomoments_dagster.moments.transcript import Sentence, Transcript, Word

_PAUSE_MS = 600
_PIECE_MS = 30_000


def usable_sentences(transcript: Transcript, longest_ms: int) -> list[Sentence]:
    """Sentences sorted by start, not overlapping; one longer than `longest_ms` is split at its widest word gaps.

    A long sentence without words to split at stays as it is; no moment can hold it.
    """
    given = [s for s in transcript.sentences if s.text.strip() and s.end_ms > s.start_ms]
    sentences: list[Sentence] = []
    words, first = transcript.words, 0
    for sentence in _without_overlap(given or _between_pauses(words)):
        if sentence.end_ms - sentence.start_ms <= longest_ms:
            sentences.append(sentence)
            continue
        while first < len(words) and words[first].start_ms < sentence.start_ms:
            first += 1
        last = first
        while last < len(words) and words[last].end_ms <= sentence.end_ms:
            last += 1
        sentences.extend(_pieces(words[first:last], min(longest_ms, _PIECE_MS)) or [sentence])
    return sentences


def _without_overlap(sentences: Sequence[Sentence]) -> list[Sentence]:
    """The same, each ending no later than the next begins; sentences that start together are joined."""
    apart: list[Sentence] = []
    for sentence in sentences:
        if apart and sentence.start_ms <= apart[-1].start_ms:
            text, end_ms = f"{apart[-1].text} {sentence.text}", max(apart[-1].end_ms, sentence.end_ms)
            apart[-1] = Sentence(text, apart[-1].start_ms, end_ms)
            continue
        if apart and apart[-1].end_ms > sentence.start_ms:
            apart[-1] = Sentence(apart[-1].text, apart[-1].start_ms, sentence.start_ms)
        apart.append(sentence)
    return apart


def _between_pauses(words: Sequence[Word]) -> list[Sentence]:
    groups: list[list[Word]] = []
    for word in words:
        if not groups or word.start_ms - groups[-1][-1].end_ms >= _PAUSE_MS:
            groups.append([])
        groups[-1].append(word)
    return [_sentence(group) for group in groups if group[-1].end_ms > group[0].start_ms]


def _pieces(words: Sequence[Word], longest_ms: int) -> list[Sentence]:
    """`words` in stretches of at most `longest_ms`, each cut at the widest gap of its second half."""
    pieces: list[Sentence] = []
    first = 0
    while first < len(words):
        last = first + 1
        while last < len(words) and words[last].end_ms - words[first].start_ms <= longest_ms:
            last += 1
        if last < len(words):
            cuts = range(first + max(1, (last - first) // 2), last + 1)
            last = max(cuts, key=lambda cut: (words[cut].start_ms - words[cut - 1].end_ms, cut))
        pieces.append(_sentence(words[first:last]))
        first = last
    return [piece for piece in pieces if piece.end_ms > piece.start_ms]


def _sentence(words: Sequence[Word]) -> Sentence:
    return Sentence(" ".join(word.text for word in words), words[0].start_ms, words[-1].end_ms)
