"""builtin_speech: English speech recognition without a network, by pocketsphinx and the model inside its wheel.

Here: checking the audio, sharing its runs of sound out to child processes, and progress. The parts are in
speech_activity.py (where sound is), speech_child.py (the recognizer) and speech_text.py (words to sentences).
"""

import time
import wave
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import numpy as np
from numpy.typing import NDArray

from videomoments_dagster.errors import (
    MediaCrashed,
    MediaDamaged,
    MediaError,
    MediaKilled,
    MediaTimeout,
    ModelError,
    ModelUnavailable,
)
from videomoments_dagster.logs import carried
from videomoments_dagster.models.builtin.speech_activity import RATE_HZ, levels, speech_runs
from videomoments_dagster.models.builtin.speech_text import transcript_of
from videomoments_dagster.models.protocols import Transcription
from videomoments_dagster.moments.moment import Span
from videomoments_dagster.moments.transcript import Word
from videomoments_dagster.processes import Progress, run_child
from videomoments_dagster.settings import get_settings

_CHILD = "videomoments_dagster.models.builtin.speech_child"
_BLOCK_FRAMES = 60 * RATE_HZ
# Speech takes 0.2 to 0.35 CPU seconds a second and music up to 1; the rest is for machines that are busy.
_TIMEOUT_SECONDS = 60.0
_TIMEOUT_FACTOR = 20.0


class BuiltinSpeech:
    """A SpeechRecognizer that runs in `settings.speech_processes` child processes.

    The same file gives the same transcript, however many there are. Punctuation is not heard: a sentence ends where
    there is a pause (speech_text.py).
    """

    key = "builtin_speech"

    def transcribe(self, audio: Path, *, on_progress: Progress | None = None) -> Transcription:
        """Words and sentences of a 16 kHz mono 16-bit WAV file; none when nobody speaks.

        `on_progress` is called in the caller's thread, rising to 1.0. Raises MediaError when the file is missing,
        MediaDamaged when it is not a WAV file or ends early, ModelError for another rate or when the recognizer dies.
        """
        began = time.monotonic()
        runs = sounding_runs(audio)
        words = recognize(audio, runs, on_progress or (lambda done: None))
        return Transcription(transcript_of(words, runs), round(time.monotonic() - began, 3))


def sounding_runs(audio: Path) -> list[Span]:
    """Where somebody may be speaking, in a 16 kHz mono 16-bit WAV file. Raises what BuiltinSpeech.transcribe raises."""
    return speech_runs(levels(_blocks(audio)))


def _blocks(audio: Path) -> Iterator[NDArray[np.int16]]:
    """The samples, a minute at a time."""
    try:
        with wave.open(str(audio)) as file:
            form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            if form != (RATE_HZ, 1, 2):
                raise ModelError(
                    f"{audio.name} has {form[0]} Hz, {form[1]} channels and {8 * form[2]} bits.",
                    hint="builtin_speech takes 16000 Hz, 1 channel, 16 bits, as the audio asset makes it.",
                )
            missing = file.getnframes()
            while missing > 0:
                block = np.frombuffer(file.readframes(_BLOCK_FRAMES), "<i2")
                if not len(block):
                    raise MediaDamaged(f"{audio.name} ends {missing / RATE_HZ:.1f} s before it should.")
                missing -= len(block)
                yield block
    except (wave.Error, EOFError) as error:
        raise MediaDamaged(f"{audio.name} is not a WAV file: {error or 'it is too short'}.") from None
    except FileNotFoundError:
        raise MediaError(f"There is no file {audio}.", hint="Materialize the audio asset again.") from None


def recognize(audio: Path, runs: Sequence[Span], on_progress: Progress) -> list[Word]:
    """The words in `runs`, sorted. When one child fails, or the caller is interrupted, the others are stopped."""
    shares = _shares(runs, get_settings().speech_processes)
    reports: SimpleQueue[Future[list[Word]] | tuple[int, float]] = SimpleQueue()
    stop = Event()
    words: list[Word] = []
    if shares:
        with ThreadPoolExecutor(len(shares), thread_name_prefix="speech") as pool:
            try:
                for number, share in enumerate(shares):
                    pool.submit(carried(_run), audio, share, number, reports, stop).add_done_callback(reports.put)
                running, done = len(shares), [0.0] * len(shares)
                weights = [_length(share) / _length(runs) for share in shares]
                while running:
                    report = reports.get()
                    if isinstance(report, Future):
                        words += report.result()
                        running -= 1
                    else:
                        done[report[0]] = report[1]
                        on_progress(min(0.99, sum(map(float.__mul__, weights, done))))
            finally:
                stop.set()
    on_progress(1.0)
    return sorted(words, key=lambda word: word.start_ms)


def _run(
    audio: Path,
    share: Sequence[Span],
    number: int,
    reports: "SimpleQueue[Future[list[Word]] | tuple[int, float]]",
    stop: Event,
) -> list[Word]:
    """One child on its share, from a thread of its own."""

    def report(done: float) -> None:
        if stop.is_set():
            raise _Stopped  # leaving run_child kills the child
        reports.put((number, done))

    arguments = {"path": str(audio.absolute()), "runs": [(run.start_ms, run.end_ms) for run in share]}
    try:
        found = run_child(
            _CHILD,
            {"operation": "recognize", "arguments": arguments},
            timeout_seconds=_TIMEOUT_SECONDS + _TIMEOUT_FACTOR * _length(share) / 1000,
            memory_bytes=get_settings().media_memory_bytes,
            on_progress=report,
        )
    except MediaKilled as error:
        raise ModelUnavailable(
            f"The speech recognizer was killed: {error.message}",
            hint="It is tried again; if memory is short, lower VIDEOMOMENTS_SPEECH_PROCESSES.",
        ) from error
    except (MediaCrashed, MediaTimeout) as error:
        raise ModelError(
            f"The speech recognizer failed: {error.message}",
            hint="Start the stage again; if memory is short, set VIDEOMOMENTS_SPEECH_PROCESSES=1.",
        ) from error
    return [Word(str(text), int(start), int(end)) for text, start, end in found]


class _Stopped(Exception):
    """Another child has failed; nobody waits for this one's answer."""


def _shares(runs: Sequence[Span], processes: int) -> list[list[Span]]:
    """`runs` dealt out to at most `processes` lists of about the same length, each sorted."""
    shares: list[list[Span]] = [[] for _ in range(min(processes, len(runs)))]
    lengths = [0] * len(shares)
    for run in sorted(runs, key=lambda run: (run.start_ms - run.end_ms, run.start_ms)):  # the longest first
        least = lengths.index(min(lengths))
        shares[least].append(run)
        lengths[least] += run.end_ms - run.start_ms
    return [sorted(share, key=lambda run: run.start_ms) for share in shares]


def _length(runs: Sequence[Span]) -> int:
    return sum(run.end_ms - run.start_ms for run in runs)
