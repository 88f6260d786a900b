"""The bundled talk's models: stub servers behind a real sshd that answer with the truth, or as a test says."""

import json
import re
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from db.queries import transcripts as transcript_queries
from db.queries import videos as video_queries
from tests.models.sshd import Sshd
from tests.models.stubs import ChatStub, SpeechStub, heard, text_of
from tests.sample import TRUTH, VIDEO, talk, write_wav
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.media.probe import probe
from videomoments_dagster.models.calibration_media import speech_clip
from videomoments_dagster.models.heard import transcript_in
from videomoments_dagster.models.tunnels import tunnels
from videomoments_dagster.settings import get_settings
from videomoments_dagster.storage import names

_LINE = re.compile(r"^\[(\d+) \d+s\] (.*)$", re.MULTILINE)


@dataclass
class Remote:
    """`asked` are the chat stub's questions by kind; `answers` replace what is answered to a kind."""

    chat: ChatStub
    speech: SpeechStub
    asked: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: dict[str, Callable[[str], str]] = field(default_factory=dict)

    def kinds(self) -> dict[str, int]:
        return {kind: len(asked) for kind, asked in self.asked.items()}


@contextmanager
def remote_models(platform: PlatformResource, sshd: Sshd) -> Iterator[Remote]:
    """Both stubs behind `sshd`, and the platform's registry pointing there: `parakeet`, `minimax`, `qwen3_vl_fp8`."""
    remote: Remote

    def answer(body: dict[str, Any]) -> str:
        text, system = text_of(body), body["messages"][0]["content"]
        kind = "refinement" if "choose" in system else "scoring" if "rate" in system else "generation"
        remote.asked.setdefault(kind, []).append(body)
        return remote.answers[kind](text)

    with ChatStub(answer) as chat, SpeechStub(talk_heard) as speech:
        answers = {"generation": true_topics, "refinement": nearest_sentence, "scoring": scored}
        remote = Remote(chat, speech, {}, answers)
        shared = {
            "ssh_host": "127.0.0.1",
            "ssh_port": sshd.port,
            "ssh_user": sshd.user,
            "ssh_key_file": str(sshd.key_file),
            "remote_host": "127.0.0.1",
        }
        registry = platform.models.registry
        registry.change("parakeet", {**shared, "remote_port": speech.port})
        registry.change("minimax", {**shared, "remote_port": chat.port})
        registry.change("qwen3_vl_fp8", {**shared, "remote_port": chat.port})
        yield remote
    tunnels().close()  # those of this process: the next test counts its own


def store_transcribed(platform: PlatformResource, video: str, directory: Path) -> None:
    """The talk as its first three assets leave it, with the true transcript."""
    store, name = platform.store, names.video(video, "mp4")
    file = store.put_file(name, VIDEO, "video/mp4")
    sound = write_wav(directory / "talk.wav", talk())
    store.put_file(names.audio(video), sound, "audio/wav")
    info = probe(VIDEO)
    said = transcript_in(talk_heard(sound), round(info.duration_seconds * 1000))
    with platform.database.session() as session:
        row = video_queries.upsert(
            session, video, source_url=None, cloud_url=store.cloud_url(name), title=TRUTH["title"],
            duration_seconds=info.duration_seconds, file_size_kb=file.size_kb, video_codec=info.video_codec,
            audio_codec=info.audio_codec, resolution=info.resolution, frame_rate=info.frame_rate,
        )  # fmt: skip
        transcript_queries.replace(
            session, row.id, full_text=said.text, word_timestamps=said.word_rows(),
            segment_timestamps=said.segment_rows(), language="en", transcription_service="parakeet",
            processing_time_seconds=0.1,
        )  # fmt: skip


def calibration_heard(scale: float) -> Callable[[Path], dict[str, Any]]:
    """What a recognizer hears of the clip that checks its clock, when that runs `scale` times as fast."""

    def answer(path: Path) -> dict[str, Any]:
        words, sentences = [], []
        for said in speech_clip(get_settings().home / "calibration").shown:
            texts = said.text.split()
            step = (said.end_seconds - said.start_seconds) / len(texts)
            starts = [said.start_seconds + step * n for n in range(len(texts))]
            words += [(t, at * scale, (at + step) * scale) for t, at in zip(texts, starts, strict=True)]
            sentences.append((said.text, said.start_seconds * scale, said.end_seconds * scale))
        return heard(words, sentences)

    return answer


def talk_heard(path: Path) -> dict[str, Any]:
    """The talk's true words: those of a sentence are spread evenly over it."""
    with wave.open(str(path)) as sound:
        seconds = sound.getnframes() / sound.getframerate()
    words, sentences = [], []
    for sentence in TRUTH["sentences"]:
        said = sentence["text"].split()
        start, end = sentence["start_time"], min(sentence["end_time"], seconds)
        step = (end - start) / len(said)
        words += [(word, start + step * n, start + step * (n + 0.9)) for n, word in enumerate(said)]
        sentences.append((sentence["text"], start, end))
    return heard(words, sentences)


def true_topics(question: str) -> str:
    """The true topics, by the numbers under which the question shows their sentences."""
    topic_of = {sentence["text"]: sentence["topic"] for sentence in TRUTH["sentences"]}
    shown: dict[int, list[int]] = {}
    for number, text in _LINE.findall(question):
        shown.setdefault(topic_of[text], []).append(int(number))
    moments = [
        {"first": min(n), "last": max(n), "title": TRUTH["topics"][t]["title"], "score": 5 + t, "reason": "It is one."}
        for t, n in shown.items()
    ]
    return json.dumps({"moments": moments})


def nearest_sentence(question: str) -> str:
    """The first place to start and the last one to end: what a model says that likes long moments."""
    ids = re.findall(r"^\W*([se]\d+)\b", question, re.MULTILINE)
    starts, ends = [i for i in ids if i[0] == "s"], [i for i in ids if i[0] == "e"]
    return json.dumps({"start": starts[0], "end": ends[-1], "reason": "The subject is opened here."})


def scored(question: str) -> str:
    numbers = [int(n) for n in re.findall(r"^\[(\d+) ", question, re.MULTILINE)]
    return json.dumps({"scores": [{"number": n, "score": n % 11, "reason": f"Number {n}."} for n in numbers]})
