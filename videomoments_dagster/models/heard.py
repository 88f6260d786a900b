"""A speech server's answer as a transcript, or the reason why it can't be one: shapes, times, order. No I/O."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from videomoments_dagster.errors import InvalidTranscript, ModelAnswerInvalid
from videomoments_dagster.models.server import storable
from videomoments_dagster.moments.sentences import usable_sentences
from videomoments_dagster.moments.transcript import Sentence, Transcript, Word, in_order, to_ms, to_seconds
from videomoments_dagster.redaction import redacted

_WORDS, _SEGMENTS, _TEXTS = ("word_timestamps", "words"), ("segment_timestamps", "segments"), ("transcription", "text")
_PAST_MS = 500  # frames of 80 ms and a padded last chunk go this far, no clock that is right does
_LEAST_MS = 1
_MOST_WORDS_A_SECOND = 12  # fast speakers reach 6
_LEAST_COVERED = 0.9
_LONGEST_SENTENCE_MS = 30_000
_SENTENCE_END = re.compile(r"[.?!…。？！][\"'”’»)\]]*$")  # noqa: RUF001  # full-width marks are meant
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,6})?")

_Timed = tuple[str, int, int]


def given_in(answer: Any, duration_ms: int | None = None) -> Transcript:
    """What the answer gives, in its own order. None for `duration_ms`: with any times, for those who judge them.

    Raises ModelAnswerInvalid when there is no transcript in it, or a time can't be read.
    """
    if not isinstance(answer, dict):
        raise ModelAnswerInvalid("The answer is no JSON object.")
    if not any(name in answer for name in (*_WORDS, *_SEGMENTS, *_TEXTS)):
        said = redacted(str(answer.get("detail") or ", ".join(map(str, answer)) or "nothing"))
        raise ModelAnswerInvalid(f"The answer holds no transcript: {said[:300]}.")
    words = [Word(*timed) for timed in _timed("Word", answer, _WORDS, ("word", "text"), duration_ms)]
    given = [Sentence(*timed) for timed in _timed("Segment", answer, _SEGMENTS, ("segment", "text"), duration_ms)]
    if not words and not given and str(_first(answer, _TEXTS) or "").strip():
        raise ModelAnswerInvalid("The answer has text, but no times.")
    language = str(answer.get("language") or "")
    return Transcript(tuple(words), tuple(given), language.lower() if _LANGUAGE.fullmatch(language) else "en")


def transcript_in(answer: Any, duration_ms: int) -> Transcript:
    """The transcript in `{transcription, word_timestamps, segment_timestamps}`, or in Whisper's names for them.

    Times up to half a second outside the audio are clipped to it. Sentences that are missing, or leave words out, are
    made from the words. Raises ModelAnswerInvalid saying which word or segment is wrong.
    """
    given = given_in(answer, duration_ms)
    if len(given.words) > _MOST_WORDS_A_SECOND * max(1.0, duration_ms / 1000):
        raise ModelAnswerInvalid(
            f"{len(given.words)} words in {duration_ms / 1000:.1f} s are more than anyone can say."
        )
    try:
        ordered = in_order(given)
    except InvalidTranscript as error:
        raise ModelAnswerInvalid(error.message) from None
    if ordered.words and not _cover(ordered.sentences, ordered.words):
        return Transcript(ordered.words, tuple(_sentences(ordered.words)), ordered.language)
    return ordered


def _timed(
    kind: str, answer: dict[str, Any], names: Sequence[str], text_names: Sequence[str], duration_ms: int | None
) -> list[_Timed]:
    """(text, start_ms, end_ms) of each row that has text."""
    rows = _first(answer, names)
    if not isinstance(rows, list | None):
        raise ModelAnswerInvalid(f"{names[0]} is no list.")
    found: list[_Timed] = []
    for number, row in enumerate(rows or (), 1):
        if not isinstance(row, dict):
            raise ModelAnswerInvalid(f"{kind} {number} is no object.")
        text = storable(str(_first(row, text_names) or "")).strip()
        about = f"{kind} {number} ({text[:40]!r})"
        start_ms, end_ms = _ms(row.get("start"), about), _ms(row.get("end"), about)
        if text:
            times = (start_ms, end_ms) if duration_ms is None else _inside(start_ms, end_ms, duration_ms, about)
            found.append((text, *times))
    return found


def _inside(start_ms: int, end_ms: int, duration_ms: int, about: str) -> tuple[int, int]:
    """The times clipped to the audio, and at least a millisecond long: boundaries lie between words."""
    if max(start_ms, end_ms) > duration_ms + _PAST_MS:
        raise ModelAnswerInvalid(
            f"{about} ends at {to_seconds(max(start_ms, end_ms))} s, past the end at {to_seconds(duration_ms)} s.",
            hint="Times past the end come from a clock that drifts: run `videomoments models check KEY`.",
        )
    if start_ms < -_PAST_MS:
        raise ModelAnswerInvalid(f"{about} starts at {to_seconds(start_ms)} s, before the beginning.")
    if end_ms < start_ms:
        return start_ms, end_ms  # in_order says so
    start_ms = max(0, min(start_ms, duration_ms - _LEAST_MS))
    return start_ms, max(min(end_ms, duration_ms), start_ms + _LEAST_MS)


def _ms(value: Any, about: str) -> int:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ModelAnswerInvalid(f"{about} has {str(value)[:20]!r} for a time.")
    return to_ms(seconds)


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _cover(sentences: Sequence[Sentence], words: Sequence[Word]) -> bool:
    """Whether the middles of nearly all words lie in a sentence. Chunks are known to lose theirs."""
    covered = place = 0
    ends = 0  # of the sentences so far: they may overlap
    for word in words:
        middle = (word.start_ms + word.end_ms) // 2
        while place < len(sentences) and sentences[place].start_ms <= middle:
            ends = max(ends, sentences[place].end_ms)
            place += 1
        covered += middle <= ends
    return covered >= _LEAST_COVERED * len(words)


def _sentences(words: Sequence[Word]) -> list[Sentence]:
    """Up to each full stop; where the recognizer writes none, from pause to pause."""
    ends = [
        place
        for place, (word, following) in enumerate(pairwise(words), 1)
        if _SENTENCE_END.search(word.text) and not following.text[:1].islower()
    ]
    if not ends:
        return usable_sentences(Transcript(tuple(words), ()), _LONGEST_SENTENCE_MS)
    parts = [words[first:last] for first, last in pairwise([0, *ends, len(words)])]
    return [
        Sentence(" ".join(word.text for word in part), part[0].start_ms, max(word.end_ms for word in part))
        for part in parts
    ]
