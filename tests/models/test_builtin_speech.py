"""builtin_speech through its public door, with the real recognizer on the bundled talk and on made-up sounds."""

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from tests.sample import RATE_HZ, TRUTH, talk, word_error_rate, write_wav
from videomoments_dagster.errors import MediaDamaged, MediaError, ModelError
from videomoments_dagster.models.builtin.speech import BuiltinSpeech
from videomoments_dagster.moments.transcript import Transcript
from videomoments_dagster.settings import get_settings

SENTENCES = TRUTH["sentences"]
TOPIC = TRUTH["topics"][0]


def _until(seconds: float) -> NDArray[np.int16]:
    return talk()[: round(seconds * RATE_HZ)]


def _hear(path: Path) -> Transcript:
    return BuiltinSpeech().transcribe(path).transcript


@pytest.fixture(scope="module")
def topic_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first topic, 24 s."""
    return write_wav(tmp_path_factory.mktemp("speech") / "topic.wav", _until(TOPIC["end_time"] + 0.5))


@pytest.fixture(scope="module")
def topic_run(topic_file: Path) -> tuple[Transcript, list[tuple[float, int]]]:
    """The transcript of the first topic, and each progress report with the thread it came in."""
    seen: list[tuple[float, int]] = []
    heard = BuiltinSpeech().transcribe(topic_file, on_progress=lambda done: seen.append((done, threading.get_ident())))
    assert 0 < heard.processing_time_seconds < 120
    return heard.transcript, seen


@pytest.fixture(scope="module")
def heard_topic(topic_run: tuple[Transcript, list[tuple[float, int]]]) -> Transcript:
    return topic_run[0]


@pytest.fixture(scope="module")
def two_sentences(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Transcript]:
    """The first two sentences, and what is heard in them."""
    file = write_wav(tmp_path_factory.mktemp("speech") / "two.wav", _until(SENTENCES[1]["end_time"] + 0.3))
    return file, _hear(file)


def _speech_children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "speech_child" in " ".join(child.cmdline())]


def test_at_least_seventeen_of_twenty_words_are_right(heard_topic: Transcript) -> None:
    true = [word.strip(".,").lower() for word in TOPIC["text"].split()]
    assert word_error_rate(true, [word.text for word in heard_topic.words]) < 0.15


def test_words_are_in_order_apart_and_inside_the_file(heard_topic: Transcript) -> None:
    edges = [edge for word in heard_topic.words for edge in (word.start_ms, word.end_ms)]
    assert all(isinstance(edge, int) for edge in edges)
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= (TOPIC["end_time"] + 0.5) * 1000
    assert all(word.end_ms > word.start_ms for word in heard_topic.words)
    assert not [word.text for word in heard_topic.words if set(word.text) & set("<>[]()")]


def test_sentences_start_and_end_where_they_are_said(heard_topic: Transcript) -> None:
    assert len(heard_topic.sentences) == 6
    for heard, true in zip(heard_topic.sentences, SENTENCES, strict=False):
        assert heard.start_ms == pytest.approx(true["start_time"] * 1000, abs=100)
        assert heard.end_ms == pytest.approx(true["end_time"] * 1000, abs=150)


def test_sentences_hold_all_the_words_and_make_the_text(heard_topic: Transcript) -> None:
    words = [word.strip(".").lower() for word in heard_topic.text.split()]
    assert words == [word.text.lower() for word in heard_topic.words]
    assert heard_topic.text.startswith("The first habit")
    assert all(sentence.text[0].isupper() and sentence.text.endswith(".") for sentence in heard_topic.sentences)


def test_a_long_silence_costs_nothing_and_shifts_nothing(
    tmp_path: Path, two_sentences: tuple[Path, Transcript]
) -> None:
    """Ten minutes of it between two sentences; a clock that drifts by a frame a chunk would show."""
    samples, middle = _until(SENTENCES[1]["end_time"] + 0.3), round((SENTENCES[0]["end_time"] + 0.3) * RATE_HZ)
    gap = np.random.default_rng(5).normal(0, 6, 600 * RATE_HZ)
    close = two_sentences[1].words
    far = _hear(write_wav(tmp_path / "far.wav", np.concatenate([samples[:middle], gap, samples[middle:]]))).words
    assert [word.text for word in far] == [word.text for word in close]
    shifts = [after.start_ms - before.start_ms for before, after in zip(close, far, strict=True)]
    first = sum(word.start_ms < middle / RATE_HZ * 1000 for word in close)
    assert 0 < first < len(close)
    assert shifts[:first] == pytest.approx([0] * first, abs=20)
    assert shifts[first:] == pytest.approx([600_000] * (len(close) - first), abs=20)


@pytest.mark.usefixtures("home")
def test_the_number_of_processes_changes_nothing(
    two_sentences: tuple[Path, Transcript], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEOMOMENTS_SPEECH_PROCESSES", "1")
    assert get_settings().speech_processes == 1
    file, heard = two_sentences
    assert _hear(file) == heard
    assert len(heard.words) > 15


def _sounds(seconds: int = 4) -> dict[str, NDArray[np.floating]]:
    random = np.random.default_rng(3)
    time = np.arange(seconds * RATE_HZ) / RATE_HZ
    noise = random.normal(0, 1, len(time))
    chord = sum((np.sin(2 * np.pi * pitch * time) for pitch in (261.6, 329.6, 392.0)), np.zeros_like(time))
    return {
        "digital silence": np.zeros_like(time),
        "room tone": 6 * noise,
        "noise": 3000 * noise,
        "loud noise, clipped": 20000 * noise,
        "a tone": 8000 * np.sin(2 * np.pi * 440 * time),
        "a chord": 3000 * chord,
        "a chord that swells": 2000 * chord * (1 + np.sin(np.pi * time)),
        "beeps": 8000 * np.sin(2 * np.pi * 1000 * time) * (time % 1 < 0.3),
        "hum": 3000 * np.sin(2 * np.pi * 50 * time) + 30 * noise,
    }


@pytest.mark.parametrize("name", _sounds(1))
def test_what_is_not_speech_has_no_words(name: str, tmp_path: Path) -> None:
    heard = _hear(write_wav(tmp_path / "sound.wav", _sounds()[name]))
    assert heard == Transcript(words=(), sentences=())
    assert heard.text == ""


@pytest.mark.slow
def test_a_tune_has_no_words(tmp_path: Path) -> None:
    """Plucked notes with a drum: loud and varied like speech, and the recognizer does hear words in it."""
    random = np.random.default_rng(3)
    tune = np.zeros(4 * RATE_HZ)
    fade = np.arange(RATE_HZ) / RATE_HZ
    for start in range(0, len(tune) - RATE_HZ, RATE_HZ // 4):
        pitch = 261.6 * 2 ** (random.integers(0, 24) / 12)
        note = sum((np.sin(2 * np.pi * pitch * part * fade) / part for part in (1, 2, 3, 4)), np.zeros(RATE_HZ))
        tune[start : start + RATE_HZ] += 5000 * np.exp(-4 * fade) * note
    for start in range(0, len(tune) - RATE_HZ, RATE_HZ // 2):
        tune[start : start + RATE_HZ] += random.normal(0, 5000, RATE_HZ) * np.exp(-27 * fade)
    assert _hear(write_wav(tmp_path / "tune.wav", tune)).words == ()


@pytest.mark.parametrize("samples", [0, 1, 100, RATE_HZ // 10])
def test_a_file_too_short_for_a_word_has_none(samples: int, tmp_path: Path) -> None:
    assert _hear(write_wav(tmp_path / "short.wav", np.full(samples, 900))).words == ()


def test_progress_rises_to_one_in_the_callers_thread(
    topic_run: tuple[Transcript, list[tuple[float, int]]],
) -> None:
    values = [done for done, _ in topic_run[1]]
    assert len(values) >= 6
    assert all(earlier <= later for earlier, later in pairwise(values))
    assert values[-1] == 1.0
    assert {thread for _, thread in topic_run[1]} == {threading.get_ident()}


def test_a_killed_recognizer_is_a_typed_error_and_leaves_no_process(topic_file: Path) -> None:
    def kill_all(_: float) -> None:
        for child in _speech_children():
            child.kill()

    with pytest.raises(ModelError, match="SIGKILL") as caught:
        BuiltinSpeech().transcribe(topic_file, on_progress=kill_all)
    assert "VIDEOMOMENTS_SPEECH_PROCESSES" in caught.value.hint
    assert _speech_children() == []


def test_a_caller_who_gives_up_leaves_no_process(topic_file: Path) -> None:
    class GiveUp(Exception):
        pass

    def give_up(_: float) -> None:
        raise GiveUp

    with pytest.raises(GiveUp):
        BuiltinSpeech().transcribe(topic_file, on_progress=give_up)
    assert _speech_children() == []


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 1), (8_000, 1), (16_000, 2)])
def test_audio_of_another_form_is_refused_with_what_is_wanted(rate: int, channels: int, tmp_path: Path) -> None:
    file = write_wav(tmp_path / "odd.wav", np.zeros(4000), rate, channels)
    with pytest.raises(ModelError, match=f"{rate} Hz, {channels} channel") as caught:
        _hear(file)
    assert "16000 Hz" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"RIFF", b"this is no sound at all, but it is long enough to be read"])
def test_a_file_that_is_no_wav_is_damaged_media(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "no.wav"
    file.write_bytes(content)
    with pytest.raises(MediaDamaged, match=r"no\.wav is not a WAV file"):
        _hear(file)


def test_a_file_cut_short_is_damaged_media(tmp_path: Path) -> None:
    file = write_wav(tmp_path / "cut.wav", np.zeros(5 * RATE_HZ))
    file.write_bytes(file.read_bytes()[: 3 * 2 * RATE_HZ + 44])
    with pytest.raises(MediaDamaged, match=r"ends 2\.0 s before"):
        _hear(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.wav"):
        _hear(tmp_path / "gone.wav")
