"""Remote speech recognizers: a WAV file goes up as multipart/form-data, words with times come back.

What the answer must look like is in heard.py. Here: the upload, its progress, and whether speech was missed.
"""

import time
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videomoments_dagster.errors import AsrLowYield, MediaDamaged, MediaError, ModelAnswerInvalid
from videomoments_dagster.models.calls import Observe, observed, unobserved
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.heard import given_in, transcript_in
from videomoments_dagster.models.protocols import Transcription
from videomoments_dagster.models.server import ModelServer, Upload
from videomoments_dagster.moments.moment import Span
from videomoments_dagster.moments.transcript import Transcript
from videomoments_dagster.processes import Progress

_ENDPOINT = "/transcribe"
_UPLOAD_SHARE = 0.5
_STEP = 0.01
# Below this share of words a transcript of a minute or more is suspicious; OpenShorts rejects Parakeet's there too.
_LEAST_WORDS_A_SECOND = 0.2
_SUSPICIOUS_MS = 60_000
_LEAST_SOUNDING_MS = 10_000
# The builtin recognizer's second opinion. Speech gives it 2.7 to 3.1 words a second (backwards too: any language
# will do), half speech and half music 1.4, music 0 to 0.8.
_EXCERPT_MS = 12_000
_PIECE_MS = 4_000
_SPOKEN_WORDS_A_SECOND = 1.0


class RemoteSpeech:
    """A SpeechRecognizer behind `/transcribe`; tells `observe` of each question. Threads may share it."""

    def __init__(self, entry: ModelEntry, server: ModelServer, observe: Observe = unobserved) -> None:
        self.key, self._entry, self._observe = entry.key, entry, observe
        self._path, self._server = entry.endpoint or _ENDPOINT, server

    def transcribe(self, audio: Path, *, on_progress: Progress | None = None) -> Transcription:
        """Words and sentences of a 16 kHz mono 16-bit WAV file; none when nobody speaks.

        `on_progress` is called in the caller's thread: up to a half while the file goes up, 1.0 at the end. Raises
        MediaError and MediaDamaged for the file, what ModelServer.post raises, ModelAnswerInvalid when the answer
        has another shape or impossible times, and AsrLowYield when speech was not heard.
        """
        began = time.monotonic()
        duration_ms = _duration_ms(audio)
        report = _rising(on_progress)
        answer = self._answer(audio, report)
        with self._naming():
            transcript = transcript_in(answer, duration_ms)
        self._check_yield(audio, transcript, duration_ms)
        report(1.0)
        own_seconds = round(time.monotonic() - began, 3)
        return Transcription(transcript, _positive(answer.get("processing_time"), own_seconds))

    def transcribe_unchecked(self, audio: Path, *, on_progress: Progress | None = None) -> Transcript:
        """The same with whatever times the server gives, and however little it heard: for the clock check."""
        report = _rising(on_progress)
        answer = self._answer(audio, report)
        with self._naming():
            transcript = given_in(answer)
        report(1.0)
        return transcript

    def _answer(self, audio: Path, report: Progress) -> Any:
        upload = Upload(audio, content_type="audio/wav", on_progress=lambda share: report(share * _UPLOAD_SHARE))
        with observed(self._entry, self._observe):
            return self._server.post(self._path, multipart=upload)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Says whose answer it is that makes no sense."""
        try:
            yield
        except ModelAnswerInvalid as error:
            hint = error.hint.replace("KEY", self.key)
            raise ModelAnswerInvalid(f"{self.key} at {self._server.where}: {error.message}", hint=hint) from None

    def _check_yield(self, audio: Path, transcript: Transcript, duration_ms: int) -> None:
        """Silence, noise and music rightly give no words; speech does not."""
        words = len(transcript.words) or len(transcript.text.split())
        if duration_ms < _SUSPICIOUS_MS or words >= _LEAST_WORDS_A_SECOND * duration_ms / 1000:
            return
        from videomoments_dagster.models.builtin.speech import sounding_runs  # numpy: for the suspicious only

        runs = sounding_runs(audio)
        sounding_ms = _length(runs)
        enough = words >= _LEAST_WORDS_A_SECOND * sounding_ms / 1000
        if enough or sounding_ms < _LEAST_SOUNDING_MS or not _is_spoken(audio, runs):
            return
        raise AsrLowYield(
            f"{self.key} heard {words} words in {duration_ms / 1000:.0f} s of audio, "
            f"of which {sounding_ms / 1000:.0f} s sound like speech.",
            hint=f"Check its server with `videomoments models check {self.key}`, and whether it knows the language; "
            "or choose another speech model.",
        )


def _is_spoken(audio: Path, runs: Sequence[Span]) -> bool:
    """Whether the builtin recognizer takes an excerpt of `runs` for speech; loudness alone can't tell it from music."""
    from videomoments_dagster.models.builtin.speech import recognize
    from videomoments_dagster.models.builtin.speech_text import transcript_of

    stride = max(1, len(runs) * _PIECE_MS // _EXCERPT_MS)
    excerpt: list[Span] = []
    for run in (run for offset in range(stride) for run in runs[offset::stride]):  # spread over the whole file
        if _length(excerpt) >= _EXCERPT_MS:
            break
        excerpt.append(Span(run.start_ms, min(run.end_ms, run.start_ms + _PIECE_MS)))
    excerpt.sort(key=lambda span: span.start_ms)
    words = transcript_of(recognize(audio, excerpt, lambda done: None), excerpt).words
    return len(words) >= _SPOKEN_WORDS_A_SECOND * _length(excerpt) / 1000


def _length(spans: Sequence[Span]) -> int:
    return sum(span.end_ms - span.start_ms for span in spans)


def _duration_ms(audio: Path) -> int:
    try:
        with wave.open(str(audio)) as file:
            return round(1000 * file.getnframes() / file.getframerate())
    except (wave.Error, EOFError, ZeroDivisionError) as error:
        raise MediaDamaged(f"{audio.name} is not a WAV file: {error or 'it is too short'}.") from None
    except FileNotFoundError:
        raise MediaError(f"There is no file {audio}.", hint="Materialize the audio asset again.") from None


def _rising(on_progress: Progress | None) -> Progress:
    """Reports in steps of a hundredth, and never falls back: an upload that is repeated starts again."""
    reached = 0.0

    def report(share: float) -> None:
        nonlocal reached
        if on_progress and (share >= reached + _STEP or (share in {_UPLOAD_SHARE, 1.0} and share > reached)):
            reached = share
            on_progress(share)

    return report


def _positive(value: object, otherwise: float) -> float:
    """The server's own number of seconds, where it gives a sensible one."""
    try:
        seconds = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return otherwise
    return round(seconds, 3) if 0 <= seconds < 1e6 else otherwise
