"""RemoteSpeech against a real HTTP server: the upload, its progress and memory, and answers that can't be right."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from tests.models import stubs
from tests.models.stubs import SpeechStub, Timed, heard
from tests.sample import RATE_HZ, talk, write_wav
from videomoments_dagster.errors import (
    AsrLowYield,
    MediaDamaged,
    MediaError,
    ModelAnswerInvalid,
    ModelRefused,
    ModelUnavailable,
)
from videomoments_dagster.models.retries import Retries
from videomoments_dagster.models.server import ModelServer
from videomoments_dagster.models.speech import RemoteSpeech
from videomoments_dagster.moments.transcript import Sentence, Transcript, Word
from videomoments_dagster.settings import get_settings

WORDS: list[Timed] = [("Hello", 0.5, 0.9), ("there.", 1.0, 1.4), ("Good", 2.0, 2.3), ("bye.", 2.3, 2.8)]
SEGMENTS: list[Timed] = [("Hello there.", 0.5, 1.4), ("Good bye.", 2.0, 2.8)]


@pytest.fixture
def stub() -> Iterator[SpeechStub]:
    with SpeechStub(lambda file: heard(WORDS, SEGMENTS)) as server:
        yield server


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of quiet."""
    return write_wav(tmp_path_factory.mktemp("audio") / "audio.wav", np.zeros(10 * RATE_HZ))


def _recognizer(stub: SpeechStub, **fields: Any) -> RemoteSpeech:
    return RemoteSpeech(stub.entry(**fields), stub.server(**fields))


def _hear(stub: SpeechStub, audio: Path, answer: Any = None) -> Transcript:
    if answer is not None:
        stub.answer = lambda file: answer
    return _recognizer(stub).transcribe(audio).transcript


def _sparse_wav(path: Path, size_bytes: int) -> Path:
    """A file of so many bytes that takes no space."""
    header = write_wav(path, np.zeros(0)).read_bytes()
    sizes = [(size_bytes + 36).to_bytes(4, "little"), size_bytes.to_bytes(4, "little")]
    path.write_bytes(header[:4] + sizes[0] + header[8:40] + sizes[1])
    os.truncate(path, 44 + size_bytes)
    return path


def test_the_file_goes_up_whole_and_the_answer_becomes_a_transcript(stub: SpeechStub, audio: Path) -> None:
    stub.answer = lambda file: heard(WORDS, SEGMENTS, language="de", processing_time="1.25", model="parakeet")
    result = _recognizer(stub, key="parakeet").transcribe(audio)
    assert result.transcript == Transcript(
        (Word("Hello", 500, 900), Word("there.", 1000, 1400), Word("Good", 2000, 2300), Word("bye.", 2300, 2800)),
        (Sentence("Hello there.", 500, 1400), Sentence("Good bye.", 2000, 2800)),
        "de",
    )
    assert result.processing_time_seconds == 1.25
    (request,) = stub.requests
    assert (request.path, request.field, request.content_type) == ("/transcribe", "file", "audio/wav")
    assert request.size_bytes == audio.stat().st_size
    assert request.sha256 == hashlib.sha256(audio.read_bytes()).hexdigest()


def test_progress_rises_to_a_half_with_the_upload_and_to_one_with_the_answer_also_when_it_is_repeated(
    stub: SpeechStub, audio: Path
) -> None:
    stub.script(stubs.refuses(500, "out of memory"), stubs.cut_half_way())
    seen: list[float] = []
    _recognizer(stub).transcribe(audio, on_progress=seen.append)
    assert len(stub.requests) == 3
    assert {request.sha256 for request in stub.requests} == {hashlib.sha256(audio.read_bytes()).hexdigest()}
    assert seen == sorted(set(seen))
    assert len(seen) > 5
    assert (seen[-2], seen[-1]) == (0.5, 1.0)


def test_an_upload_of_200_mb_takes_no_memory(stub: SpeechStub, tmp_path: Path) -> None:
    audio = _sparse_wav(tmp_path / "long.wav", 200_000_000)
    stub.answer = lambda file: heard([("word", at, at + 0.4) for at in range(6000)])
    recognizer, process = _recognizer(stub), psutil.Process()
    used: list[int] = []
    before = process.memory_info().rss
    transcript = recognizer.transcribe(
        audio, on_progress=lambda share: used.append(process.memory_info().rss)
    ).transcript
    assert stub.requests[0].size_bytes == 200_000_044
    assert len(transcript.words) == 6000
    assert len(used) > 40
    assert max(used) - before < 20_000_000


def test_a_server_that_is_busy_may_leave_the_upload_unread_longer_than_a_connection_may_take(tmp_path: Path) -> None:
    audio = _sparse_wav(tmp_path / "long.wav", 30_000_000)
    with SpeechStub(lambda file: heard([("word", at, at + 0.4) for at in range(900)]), pause_seconds=0.5) as stub:
        server = ModelServer(stub.entry(), get_settings(), retries=Retries(attempts=1), connect_seconds=0.2)
        assert len(RemoteSpeech(stub.entry(), server).transcribe(audio).transcript.words) == 900


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            {
                "text": "Hello there. Good bye.",
                "words": [{"text": w, "start": str(a), "end": str(b), "confidence": 0.9} for w, a, b in WORDS],
                "segments": [{"id": 1, "text": f" {t} ", "start": a, "end": b} for t, a, b in SEGMENTS],
            },
            id="Whisper's names, numbers as texts",
        ),
        pytest.param(heard(WORDS), id="no segments"),
        pytest.param({**heard(WORDS), "segment_timestamps": None}, id="null segments"),
        pytest.param(heard(WORDS, SEGMENTS[:1]), id="segments that leave words out"),
        pytest.param(heard([WORDS[1], WORDS[0], *WORDS[2:]], SEGMENTS), id="neighbours swapped"),
        pytest.param(heard([*WORDS, ("", 3, 3), (" \0", 4, 5)], SEGMENTS), id="words without text"),
    ],
)
def test_answers_of_other_shapes_are_understood(stub: SpeechStub, audio: Path, answer: Any) -> None:
    transcript = _hear(stub, audio, answer)
    assert [(w.text, w.start_ms, w.end_ms) for w in transcript.words] == [
        ("Hello", 500, 900), ("there.", 1000, 1400), ("Good", 2000, 2300), ("bye.", 2300, 2800)
    ]  # fmt: skip
    assert [(s.text, s.start_ms, s.end_ms) for s in transcript.sentences] == [
        ("Hello there.", 500, 1400), ("Good bye.", 2000, 2800)
    ]  # fmt: skip


def test_without_punctuation_a_pause_ends_a_sentence(stub: SpeechStub, audio: Path) -> None:
    words = [("hello", 0.5, 0.9), ("there", 1.0, 1.4), ("good", 2.1, 2.3), ("bye", 2.3, 2.8)]
    assert [s.text for s in _hear(stub, audio, heard(words)).sentences] == ["hello there", "good bye"]


def test_segments_without_words_are_a_transcript_too(stub: SpeechStub, audio: Path) -> None:
    transcript = _hear(stub, audio, heard([], SEGMENTS))
    assert transcript.words == ()
    assert transcript.text == "Hello there. Good bye."


def test_a_word_without_length_gets_a_millisecond(stub: SpeechStub, audio: Path) -> None:
    transcript = _hear(stub, audio, heard([("a", 1.0, 1.0), ("b", 1.0, 1.2), ("c", 10.0, 10.0)]))
    assert [(w.start_ms, w.end_ms) for w in transcript.words] == [(1000, 1001), (1000, 1200), (9999, 10_000)]


def test_times_just_outside_the_audio_are_clipped_to_it(stub: SpeechStub, audio: Path) -> None:
    transcript = _hear(stub, audio, heard([("a", -0.08, 0.2), ("b", 9.8, 10.4), ("c", 10.2, 10.5)]))
    assert [(w.start_ms, w.end_ms) for w in transcript.words] == [(0, 200), (9800, 10_000), (9999, 10_000)]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (heard([("late", 10.2, 10.6)]), r"Word 1 \('late'\) ends at 10.6 s, past the end at 10.0 s"),
        (heard(WORDS, [("All", 0, 30)]), r"Segment 1 \('All'\) ends at 30.0 s, past the end"),
        (heard([("early", -1, 0.5)]), "before the beginning"),
        (heard([("a", 5, 5.5), ("b", 2, 2.5)]), r"Word 2 \('b'\) starts at 2.0 s, after one that starts at 5.0 s"),
        (heard([("a", 5, 4.5)]), "before it starts"),
        ({"word_timestamps": [{"word": "a", "start": None, "end": 1}]}, "'None' for a time"),
        ({"word_timestamps": [{"word": "a", "end": 1}]}, "for a time"),
        ({"word_timestamps": [{"word": "a", "start": "NaN", "end": 1}]}, "'NaN' for a time"),
        (heard([("a", float("inf"), 1)]), "'inf' for a time"),
        (heard([("a", 1e300, 1e300)]), "past the end"),
        (heard([("word", at / 20, at / 20) for at in range(180)]), "180 words in 10.0 s are more than anyone can say"),
        ({"transcription": "Hello there."}, "text, but no times"),
        ({"word_timestamps": "none"}, "word_timestamps is no list"),
        ({"word_timestamps": ["a"]}, "Word 1 is no object"),
        ({"detail": "CUDA out of memory"}, "holds no transcript: CUDA out of memory"),
        ([], "no JSON object"),
    ],
)
def test_an_answer_that_can_not_be_right_is_invalid_and_says_why(
    stub: SpeechStub, audio: Path, answer: Any, fault: str
) -> None:
    with pytest.raises(ModelAnswerInvalid, match=fault) as error:
        _hear(stub, audio, answer)
    assert f"stub at 127.0.0.1:{stub.port}" in error.value.message
    assert error.value.hint
    assert len(stub.requests) == 1


def test_times_past_the_end_hint_at_the_clock_check_of_that_model(stub: SpeechStub, audio: Path) -> None:
    stub.answer = lambda file: heard([("late", 12, 13)])
    with pytest.raises(ModelAnswerInvalid) as error:
        _recognizer(stub, key="parakeet").transcribe(audio)
    assert "a clock that drifts: run `videomoments models check parakeet`" in error.value.hint


def _sound(kind: str) -> NDArray[Any]:
    seconds = np.arange(70 * RATE_HZ) / RATE_HZ
    if kind == "talk":
        return talk()[: len(seconds)]
    if kind == "hum":
        return 3000 * np.sin(2 * np.pi * 50 * seconds)
    if kind == "music":  # plucked strings
        since = seconds % 0.5
        pitch = np.array([220, 277, 330, 440, 165])[(seconds // 0.5).astype(int) % 5]
        overtones = np.sum([np.sin(2 * np.pi * pitch * n * since) / n for n in (1, 2, 3, 4, 5)], axis=0)
        return 4000 * overtones * np.exp(-3 * since)
    return np.zeros(len(seconds))


@pytest.mark.parametrize("kind", ["silence", "hum", "music"])
def test_nothing_heard_where_nobody_speaks_is_an_empty_transcript(stub: SpeechStub, tmp_path: Path, kind: str) -> None:
    transcript = _hear(stub, write_wav(tmp_path / "audio.wav", _sound(kind)), heard([]))
    assert (transcript.words, transcript.sentences) == ((), ())


def test_nothing_heard_in_a_minute_of_speech_is_a_failure(stub: SpeechStub, tmp_path: Path) -> None:
    audio = write_wav(tmp_path / "audio.wav", _sound("talk"))
    with pytest.raises(AsrLowYield, match=r"stub heard 4 words in 70 s of audio, of which 6\d s sound like speech"):
        _hear(stub, audio)


def test_an_empty_answer_for_a_short_file_is_believed(stub: SpeechStub, tmp_path: Path) -> None:
    assert _hear(stub, write_wav(tmp_path / "audio.wav", talk()[: 20 * RATE_HZ]), heard([])).words == ()


def test_a_refusal_of_the_server_is_final(stub: SpeechStub, audio: Path) -> None:
    stub.script(stubs.refuses(413, {"detail": "File too large"}))
    with pytest.raises(ModelRefused, match="answers 413: File too large"):
        _hear(stub, audio)
    assert len(stub.requests) == 1


def test_a_hung_server_is_given_up(stub: SpeechStub, audio: Path) -> None:
    stub.script(stubs.hangs(), stubs.hangs())
    began = time.monotonic()
    with pytest.raises(ModelUnavailable, match=r"was silent for 0\.2 s"):
        _recognizer(stub, timeout_seconds=0.2).transcribe(audio)
    assert time.monotonic() - began < 2


def test_a_file_that_is_missing_or_no_wav_is_not_sent(stub: SpeechStub, tmp_path: Path) -> None:
    broken = tmp_path / "audio.wav"
    with pytest.raises(MediaError, match="There is no file"):
        _hear(stub, broken)
    for content in (b"", json.dumps({}).encode() * 40):
        broken.write_bytes(content)
        with pytest.raises(MediaDamaged, match="is not a WAV file"):
            _hear(stub, broken)
    assert stub.requests == []
