"""A transcript as the algorithms see it: words and sentences with integer milliseconds, and its row form."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videomoments_dagster.errors import InvalidTranscript

_SWAPPED_MS = 1_000


@dataclass(frozen=True, slots=True)
class Word:
    """One word and when it is said, in ms of the source video's clock."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, or what a recognizer without punctuation heard between two pauses."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """Words and sentences, each sorted by start. `sentences` cover `words`; either may be empty."""

    words: tuple[Word, ...]
    sentences: tuple[Sentence, ...]
    language: str = "en"

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)

    @classmethod
    def from_rows(
        cls, words: Iterable[Mapping[str, Any]], segments: Iterable[Mapping[str, Any]], language: str = "en"
    ) -> "Transcript":
        """From the JSON of the transcripts table: `[{word, start, end}]` and `[{text, start, end}]`, in seconds."""
        return cls(
            words=tuple(Word(str(w["word"]), to_ms(w["start"]), to_ms(w["end"])) for w in words),
            sentences=tuple(Sentence(str(s["text"]), to_ms(s["start"]), to_ms(s["end"])) for s in segments),
            language=language,
        )

    def word_rows(self) -> list[dict[str, Any]]:
        return [{"word": w.text, "start": to_seconds(w.start_ms), "end": to_seconds(w.end_ms)} for w in self.words]

    def segment_rows(self) -> list[dict[str, Any]]:
        return [{"text": s.text, "start": to_seconds(s.start_ms), "end": to_seconds(s.end_ms)} for s in self.sentences]


def in_order(transcript: Transcript) -> Transcript:
    """The transcript with words and sentences sorted by start.

    Recognizers that hear two speakers at once swap neighbours by fractions of a second; that is put right. Raises
    InvalidTranscript when something starts more than a second before the one before it, or ends before it starts.
    """
    _check("Word", transcript.words)
    _check("Sentence", transcript.sentences)
    return Transcript(
        tuple(sorted(transcript.words, key=lambda w: w.start_ms)),
        tuple(sorted(transcript.sentences, key=lambda s: s.start_ms)),
        transcript.language,
    )


def _check(kind: str, items: Sequence[Word] | Sequence[Sentence]) -> None:
    previous_ms = 0
    for position, item in enumerate(items, 1):
        if item.end_ms < item.start_ms:
            fault = f"ends at {to_seconds(item.end_ms)} s, before it starts at {to_seconds(item.start_ms)} s"
        elif item.start_ms < previous_ms - _SWAPPED_MS:
            fault = f"starts at {to_seconds(item.start_ms)} s, after one that starts at {to_seconds(previous_ms)} s"
        else:
            previous_ms = max(previous_ms, item.start_ms)
            continue
        raise InvalidTranscript(
            f"{kind} {position} ({item.text[:40]!r}) {fault}.",
            hint="Sort words and sentences by their start, and give ends that follow their starts.",
        )


def to_ms(seconds: float) -> int:
    return round(float(seconds) * 1000)


def to_seconds(milliseconds: int) -> float:
    return milliseconds / 1000


def overlapping(items: Sequence[Any], start_ms: int, end_ms: int) -> list[Any]:
    """The words or sentences that overlap [start_ms, end_ms)."""
    return [item for item in items if item.end_ms > start_ms and item.start_ms < end_ms]
