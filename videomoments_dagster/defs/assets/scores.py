"""The `scores` asset: 0 to 10 for every moment a model made, with a written reason."""

from collections.abc import Sequence

import dagster as dg

from db.queries import configs as config_queries
from db.queries import moments as moment_queries
from db.queries.moments import MomentView
from videomoments_dagster.defs import answers, metadata, policies
from videomoments_dagster.defs.assets.moments import moments
from videomoments_dagster.defs.assets.refined_moments import refined_moments
from videomoments_dagster.defs.inputs import (
    Overrides,
    find_options,
    request_config,
    require_transcript,
    require_video,
)
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import stage
from videomoments_dagster.defs.unfinished import UnfinishedAnswers
from videomoments_dagster.models.catalog import builtin_moments
from videomoments_dagster.models.protocols import ChatModel
from videomoments_dagster.moments.archive import Archive, digest
from videomoments_dagster.moments.moment import FoundMoment, Score
from videomoments_dagster.moments.transcript import Transcript, to_ms
from videomoments_dagster.requests.stages import Stage


@dg.asset(
    deps=[moments, refined_moments],
    partitions_def=videos,
    group_name="videos",
    kinds={"ai", "postgres"},
    owners=["team:moments"],
    retry_policy=policies.TRANSIENT,
    code_version="2",
)
def scores(context: dg.AssetExecutionContext, platform: PlatformResource, config: Overrides) -> dg.MaterializeResult:
    """Scores of the moments and their refined children. What the model leaves out is scored by the builtin one."""
    key = context.partition_key
    with stage(context, platform, Stage.SCORING):
        with platform.database.read() as session:
            video = require_video(session, key)
            row = require_transcript(session, video)
            wanted = request_config(session, key, config)
            found = _wanted(moment_queries.of_video(session, video.id), wanted.moment)
        said = Transcript.from_rows(row.word_timestamps, row.segment_timestamps, row.language or "en")
        given = [FoundMoment(to_ms(m.start_time), to_ms(m.end_time), m.title, m.score or 0, "") for m in found]
        unfinished = UnfinishedAnswers(platform, key, "scores")
        used = platform.models.chat(
            "scoring",
            wanted.scoring_model,
            answers.sampling_of(wanted),
            lambda model: model.score(given, said),
            unfinished,
        )
        archive = Archive(
            "scores",
            used.model.key,
            find_options(wanted),
            digest(said),
            used.answer.exchanges,
            inputs={
                "about": [m.identifier for m in found],
                "numbered": [
                    {str(number): found[number - 1].identifier for number in numbers} for numbers in used.answer.numbers
                ],
            },
        )
        answers.keep(platform, key, archive, alone=wanted.moment is not None)
        scored = {m.identifier: score for m, score in zip(found, used.answer.scores, strict=True) if score}
        missing = [(m, moment) for m, moment in zip(found, given, strict=True) if m.identifier not in scored]
        stand_in = builtin_moments()
        filled = stand_in.score([moment for _, moment in missing], said).scores
        others = {m.identifier: score for (m, _), score in zip(missing, filled, strict=True) if score}
        with platform.database.session() as session:
            _record_config(session, used.model, row.id)
            moment_queries.set_scores(session, _values(scored), scoring_model=used.model.key)
            moment_queries.set_scores(session, _values(others), scoring_model=stand_in.key)
        unfinished.forget()
    values = [score.value for score in (scored | others).values()]
    return dg.MaterializeResult(
        metadata={
            **answers.shown(platform, key, archive, used),
            "number_scored": len(values),
            "scored_by_builtin": len(others),
            "mean_score": sum(values) / len(values) if values else 0.0,
            "best_score": max(values, default=0),
            "scores": metadata.table(
                ["start", "score", "title", "refined", "why"],
                [
                    (m.start_time, score.value, m.title, "yes" if m.is_refined else "", score.reason)
                    for m in found
                    if (score := (scored | others).get(m.identifier))
                ],
            ),
        }
    )


def _wanted(found: Sequence[MomentView], moment: str | None) -> list[MomentView]:
    """All of them, or the one that was refined alone with its child."""
    return [m for m in found if moment in {None, m.identifier, m.parent_identifier}]


def _values(scores: dict[str, Score]) -> dict[str, int]:
    return {identifier: score.value for identifier, score in scores.items()}


def _record_config(session: config_queries.Session, model: ChatModel, transcript_id: int) -> None:
    asked = model.scoring_prompt
    config_queries.generation_config(
        session,
        prompt_id=config_queries.prompt(session, asked.system, asked.user).id,
        transcript_id=transcript_id,
        model=model.key,
        operation_type="scoring",
        temperature=model.sampling.temperature,
        top_p=model.sampling.top_p,
        top_k=model.sampling.top_k,
    )
