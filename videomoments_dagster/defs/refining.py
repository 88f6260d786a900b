"""One stage's refinement: every moment once, whichever models it takes, and the rows that come of it."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from db.models import Video
from db.queries import configs as config_queries
from db.queries import moments as moment_queries
from db.queries.moments import MomentView, NewRefined
from videomoments_dagster.defs.inputs import find_options
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.errors import ModelError, StageInputMissing
from videomoments_dagster.identifiers import moment_identifier
from videomoments_dagster.media.thumbnail import ThumbnailFailure, ThumbnailRequest, make_thumbnails
from videomoments_dagster.models.protocols import ChatModel, ClipSource
from videomoments_dagster.moments.exchange import Exchange
from videomoments_dagster.moments.moment import FoundMoment, Refinement, Span
from videomoments_dagster.moments.transcript import Transcript, to_ms, to_seconds
from videomoments_dagster.processes import Progress
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.storage import names

_FRAME_PIXELS = 640  # across: enough to read a slide's title, and a tenth of the tokens of the whole picture


@dataclass(frozen=True, slots=True)
class Outcome:
    """One root moment, what became of it, and the model that said so."""

    root: MomentView
    new: Refinement
    model: ChatModel


@dataclass(slots=True)
class Refining:
    """Asks a model about each root. When it goes down, the next one goes on where it stopped."""

    platform: PlatformResource
    video: Video
    wanted: PipelineConfig
    roots: Sequence[MomentView]
    transcript: Transcript
    silences: Sequence[Span]
    on_progress: Progress
    outcomes: list[Outcome] = field(default_factory=list)
    _exchanges: list[Exchange] = field(default_factory=list)
    _failures: list[ModelError] = field(default_factory=list)

    def with_model(self, model: ChatModel) -> None:
        for root in self.roots[len(self.outcomes) :]:
            clip = self._clip(root)
            shown = self._shown(root, clip) if model.watches_video and root.playable else None
            refined = model.refine(
                FoundMoment(to_ms(root.start_time), to_ms(root.end_time), root.title, root.score or 0, ""),
                clip,
                self.transcript,
                self.silences,
                find_options(self.wanted),
                about=root.identifier,
                shown=shown,
            )
            self.outcomes.append(Outcome(root, refined.refinement, model))
            if refined.failure:
                self._failures.append(refined.failure)
            if refined.exchange:
                self._exchanges.append(refined.exchange)
            self.on_progress(len(self.outcomes) / len(self.roots))
        if self.roots and len(self._failures) == len(self.roots):
            self.outcomes.clear()  # of one clip it says little; of all of them that another model is needed
            raise self._failures.pop(0)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return tuple(self._exchanges)

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What moments/replay.py derives the same refinements from."""
        options = find_options(self.wanted)
        return {
            "about": [each.root.identifier for each in self.outcomes],
            "silences": [[silence.start_ms, silence.end_ms] for silence in self.silences],
            "moments": [
                {
                    "identifier": each.root.identifier,
                    "span": [to_ms(each.root.start_time), to_ms(each.root.end_time)],
                    "clip": [(clip := self._clip(each.root)).start_ms, clip.end_ms],
                    "lengths": [options.min_length_ms, options.max_length_ms],
                    "model": each.model.key,
                    "times_trusted": each.model.times_trusted,
                }
                for each in self.outcomes
            ],
        }

    def _clip(self, root: MomentView) -> Span:
        """What its clip shows; without one, what a clip would show."""
        if root.playable:
            return Span(to_ms(root.playable.start_time), to_ms(root.playable.end_time))
        end_ms = to_ms(self.video.duration_seconds or root.end_time)
        return Span(
            max(0, to_ms(root.start_time - self.wanted.padding_left)),
            min(max(end_ms, to_ms(root.end_time)), to_ms(root.end_time + self.wanted.padding_right)),
        )

    def _shown(self, root: MomentView, clip: Span) -> ClipSource:
        store, video = self.platform.store, self.video.identifier
        name = store.name_of(root.playable.cloud_url if root.playable else "")

        @contextmanager
        def file():
            with (
                self.platform.temp.directory("refined_moments", video) as directory,
                store.local_copy(name, directory) as path,
            ):
                yield path

        def frames(times_ms: Sequence[int]) -> list[bytes]:
            with self.platform.temp.directory("frames", video) as directory, file() as path:
                return _stills(path, [(at_ms - clip.start_ms) / 1000 for at_ms in times_ms], directory)

        return ClipSource(clip, lambda: store.signed_url(name), file, frames)


def roots_of(session: Session, video: Video, moment: str | None) -> list[MomentView]:
    """The moments to work on: all root ones, or the root `moment` alone. Raises StageInputMissing."""
    roots = moment_queries.of_video(session, video.id, refined=False)
    found = [each for each in roots if moment in {None, each.identifier}]
    if moment and not found:
        raise StageInputMissing(
            f"Video {video.identifier!r} has no moment {moment!r}.",
            hint="Name a moment that is no refinement itself; generating anew gives moments new identifiers.",
        )
    return found


def silences_of(platform: PlatformResource, video: str) -> list[Span]:
    from videomoments_dagster.media.silences import find_silences  # numpy: not for every process that loads us

    with (
        platform.temp.directory("refined_moments", video) as directory,
        platform.store.local_copy(names.audio(video), directory) as path,
    ):
        return [Span(start, end) for start, end in find_silences(path)]


def refined_rows(
    session: Session, video: str, outcomes: Sequence[Outcome], wanted: PipelineConfig, transcript_id: int
) -> list[NewRefined]:
    """A row for each moment that changed, under the model that changed it."""
    configs: dict[str, int] = {}
    for model in {outcome.model.key: outcome.model for outcome in outcomes}.values():
        asked = model.refinement_prompt
        configs[model.key] = config_queries.generation_config(
            session,
            prompt_id=config_queries.prompt(session, asked.system, asked.user).id,
            transcript_id=transcript_id,
            model=model.key,
            operation_type="refinement",
            temperature=model.sampling.temperature,
            top_p=model.sampling.top_p,
            top_k=model.sampling.top_k,
            min_moment_length=wanted.min_moment_length,
            max_moment_length=wanted.max_moment_length,
        ).id
    return [
        NewRefined(
            identifier=moment_identifier(
                video, f"refined:{outcome.root.identifier}", outcome.new.start_ms, outcome.new.end_ms
            ),
            parent_identifier=outcome.root.identifier,
            refined_start_time=outcome.root.start_time,
            refined_end_time=outcome.root.end_time,
            start_time=to_seconds(outcome.new.start_ms),
            end_time=to_seconds(outcome.new.end_ms),
            title=outcome.root.title,
            generation_model=outcome.model.key,
            generation_config_id=configs[outcome.model.key],
        )
        for outcome in outcomes
        if outcome.new.changed
    ]


def _stills(path: Path, at_seconds: Sequence[float], directory: Path) -> list[bytes]:
    wanted = [ThumbnailRequest(str(n), at, directory / f"{n}.jpg") for n, at in enumerate(at_seconds)]
    made = make_thumbnails(path, wanted, width=_FRAME_PIXELS)
    for each in made:
        if isinstance(each, ThumbnailFailure):
            raise each.error
    return [request.destination.read_bytes() for request in wanted]
