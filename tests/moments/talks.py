"""Made-up talks for the tests: seeded, with topics whose words and times are known. No test is in here."""

import random
from collections.abc import Sequence

from videomoments_dagster.moments.transcript import Sentence, Transcript, Word

SUBJECTS = (
    ("bread", "flour", "oven", "dough"),
    ("telescope", "planet", "galaxy", "stars"),
    ("tomato", "garden", "soil", "seeds"),
    ("guitar", "chord", "melody", "strings"),
    ("harbour", "sail", "anchor", "boat"),
    ("engine", "piston", "valve", "fuel"),
    ("museum", "painting", "sculpture", "gallery"),
    ("glacier", "summit", "rope", "climber"),
)
_FILLERS = ("the", "and", "we", "of", "it", "so", "then", "which", "is", "very", "put", "house", "green", "walk")


def talk(
    seed: int,
    seconds: float,
    *,
    topics: int = 4,
    punctuation: bool = True,
    longest_pause_seconds: float = 0.6,
    subjects: Sequence[Sequence[str]] = SUBJECTS,
) -> Transcript:
    """A talk with `topics` topics of equal length, one subject after the other."""
    chance = random.Random(seed)
    words: list[Word] = []
    sentences: list[Sentence] = []
    now_ms = 0
    while now_ms < seconds * 1000:
        subject = subjects[min(topics - 1, int(now_ms / (seconds * 1000) * topics)) % len(subjects)]
        first = len(words)
        for _ in range(chance.randint(3, 22)):
            text = chance.choice(subject) if chance.random() < 0.4 else chance.choice(_FILLERS)
            length_ms = chance.randint(120, 450)
            words.append(Word(text, now_ms, now_ms + length_ms))
            now_ms += length_ms + chance.choice((0, 0, 10, 40))
        said = " ".join(word.text for word in words[first:])
        text = f"{said.capitalize()}." if punctuation else said
        sentences.append(Sentence(text, words[first].start_ms, words[-1].end_ms))
        now_ms += int(chance.random() * longest_pause_seconds * 1000)
    return Transcript(tuple(words), tuple(sentences))


def topic_edges(transcript: Transcript, topics: int) -> list[float]:
    """Where the topics of `talk` begin, in ms, without the first."""
    end_ms = transcript.sentences[-1].end_ms
    return [end_ms * k / topics for k in range(1, topics)]
