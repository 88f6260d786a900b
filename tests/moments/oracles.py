"""A made-up model that knows the true moments, and transcripts as odd as recognizers give. No test is in here."""

import json
import random
from collections.abc import Iterable, Sequence

from videomoments_dagster.moments.generation import Plan
from videomoments_dagster.moments.transcript import Sentence, Transcript, Word


def answer(*moments: dict[str, object]) -> str:
    return json.dumps({"moments": moments})


def said(first: int, last: int, score: int = 5, title: str = "A title") -> dict[str, object]:
    """A moment as a model says it: sentences by number, both inclusive."""
    return {"first": first, "last": last, "score": score, "title": title, "reason": "It is good."}


def oracle(plan: Plan, moments: Sequence[tuple[int, int]]) -> list[str]:
    """For each window the true moments [first, last), by index, that it shows: whole, or the part it shows."""
    return [
        answer(
            *(
                said(max(first, window.first) + 1, min(last, window.last), title=f"Moment {number}")
                for number, (first, last) in enumerate(moments)
                if first < window.last and last > window.first
            )
        )
        for window in plan.windows
    ]


def later(transcript: Transcript, by_ms: int) -> Transcript:
    """The same talk, in a video where it begins later."""
    return Transcript(
        tuple(Word(w.text, w.start_ms + by_ms, w.end_ms + by_ms) for w in transcript.words),
        tuple(Sentence(s.text, s.start_ms + by_ms, s.end_ms + by_ms) for s in transcript.sentences),
    )


def blurred(transcript: Transcript, seed: int, most_ms: int = 400) -> Transcript:
    """The same words with sentences whose edges are off, as from recognizers that time them separately."""
    chance = random.Random(seed)
    sentences: list[Sentence] = []
    for s in transcript.sentences:
        start_ms = max(s.start_ms + chance.randint(-most_ms, most_ms), sentences[-1].end_ms if sentences else 0)
        sentences.append(Sentence(s.text, start_ms, max(start_ms + 50, s.end_ms + chance.randint(-most_ms, most_ms))))
    return Transcript(transcript.words, tuple(sentences))


def inside_a_word(at_ms: int, words: Iterable[Word]) -> bool:
    return any(w.start_ms < at_ms < w.end_ms for w in words)
