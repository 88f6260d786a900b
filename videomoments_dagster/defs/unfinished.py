"""Answers of models to a stage that has not finished: a retry of the stage, in this run or in a later one, on this host
or on another, asks only what was not answered. They are objects of the video, and go when the stage is done.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.models.protocols import SpeechRecognizer, Transcription
from videomoments_dagster.moments.transcript import Transcript
from videomoments_dagster.processes import Progress
from videomoments_dagster.storage import names

KEPT_HOURS = 24  # a model's server may be another one after a day


class UnfinishedAnswers:
    """Implements models.protocols.AnswerMemory for one asset of one video. What the object store can't keep or give is
    asked of the model again: nothing here fails a stage."""

    def __init__(self, platform: PlatformResource, video: str, asset: str) -> None:
        self._platform, self._store = platform, platform.store
        self._video, self._prefix = video, names.unfinished_answers(video, asset)

    def recall(self, digest: str) -> dict[str, Any] | None:
        name = self._name(digest)
        if name not in self._known:
            return None
        try:
            with (
                self._platform.temp.directory("answers", self._video) as directory,
                self._store.local_copy(name, directory) as path,
            ):
                kept = json.loads(path.read_bytes())
                fresh = datetime.fromisoformat(kept["at"]) > datetime.now(UTC) - timedelta(hours=KEPT_HOURS)
                return kept["answer"] if fresh else None
        except (VideoMomentsError, ValueError, KeyError, TypeError):
            return None

    def keep(self, digest: str, answer: Mapping[str, Any]) -> None:
        content = json.dumps({"at": datetime.now(UTC).isoformat(), "answer": dict(answer)}).encode()
        try:
            self._store.put_bytes(self._name(digest), content, "application/json")
        except VideoMomentsError:
            return
        self._known.add(self._name(digest))

    def transcribe(
        self, recognizer: SpeechRecognizer, audio_md5: str, path: Path, on_progress: Progress
    ) -> Transcription:
        """What the recognizer hears in the audio at `path`, or has heard already."""
        digest = hashlib.sha256(f"{recognizer.key} {audio_md5}".encode()).hexdigest()
        if kept := self.recall(digest):
            said = Transcript.from_rows(kept["words"], kept["segments"], kept["language"])
            return Transcription(said, kept["processing_time_seconds"])
        heard = recognizer.transcribe(path, on_progress=on_progress)
        said = heard.transcript
        self.keep(
            digest,
            {
                "words": said.word_rows(),
                "segments": said.segment_rows(),
                "language": said.language,
                "processing_time_seconds": heard.processing_time_seconds,
            },
        )
        return heard

    def forget(self) -> None:
        """The stage is done: its rows are committed. Where nothing was asked that could have been kept, neither is the
        object store."""
        if "_known" not in self.__dict__:
            return
        for name in list(self._known):
            try:
                self._store.delete(name)
            except VideoMomentsError:
                return  # they grow old

    @cached_property
    def _known(self) -> set[str]:
        try:
            return {stored.name for stored in self._store.list(self._prefix)}
        except VideoMomentsError:
            return set()

    def _name(self, digest: str) -> str:
        return f"{self._prefix}{digest}.json"
