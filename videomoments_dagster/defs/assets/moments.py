"""The `moments` asset: titled stretches of the video, found in its transcript."""

import dagster as dg

from db.queries import configs as config_queries
from db.queries import moments as moment_queries
from videomoments_dagster.defs import answers, metadata, policies
from videomoments_dagster.defs.assets.transcript import transcript
from videomoments_dagster.defs.inputs import (
    Overrides,
    find_options,
    request_config,
    require_transcript,
    require_video,
)
from videomoments_dagster.defs.objects import delete_objects
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import note, stage
from videomoments_dagster.defs.unfinished import UnfinishedAnswers
from videomoments_dagster.identifiers import moment_identifier
from videomoments_dagster.moments.archive import Archive, digest
from videomoments_dagster.moments.transcript import Transcript, to_seconds
from videomoments_dagster.requests.stages import Stage


@dg.asset(
    deps=[transcript],
    partitions_def=videos,
    group_name="videos",
    kinds={"ai", "postgres"},
    owners=["team:moments"],
    retry_policy=policies.TRANSIENT,
    pool=policies.MOMENT_GENERATION,
    code_version="2",
)
def moments(context: dg.AssetExecutionContext, platform: PlatformResource, config: Overrides) -> dg.MaterializeResult:
    """Moments with title and score. Replaces what a model made and nobody edited; none found is a result."""
    key = context.partition_key
    with stage(context, platform, Stage.MOMENT_GENERATION) as progress:
        with platform.database.read() as session:
            video = require_video(session, key)
            row = require_transcript(session, video)
            wanted = request_config(session, key, config)
        said = Transcript.from_rows(row.word_timestamps, row.segment_timestamps, row.language or "en")
        options = find_options(wanted)
        unfinished = UnfinishedAnswers(platform, key, "moments")
        used = platform.models.chat(
            "generation",
            wanted.generation_model,
            answers.sampling_of(wanted),
            lambda model: model.find(said, options, on_progress=progress),
            unfinished,
        )
        finder, result = used.model, used.answer.result
        archive = Archive(
            "moments", finder.key, options, digest(said), used.answer.exchanges, inputs=used.answer.inputs
        )
        answers.keep(platform, key, archive)
        with platform.database.session() as session:
            asked = finder.generation_prompt(options)
            generation_config = config_queries.generation_config(
                session,
                prompt_id=config_queries.prompt(session, asked.system, asked.user).id,
                transcript_id=row.id,
                model=finder.key,
                operation_type="generation",
                temperature=finder.sampling.temperature,
                top_p=finder.sampling.top_p,
                top_k=finder.sampling.top_k,
                min_moment_length=wanted.min_moment_length,
                max_moment_length=wanted.max_moment_length,
                min_moments=wanted.min_moments,
                max_moments=wanted.max_moments,
            )
            replaced = moment_queries.replace_generated(
                session,
                video.id,
                [
                    moment_queries.NewMoment(
                        identifier=moment_identifier(key, "generated", found.start_ms, found.end_ms),
                        start_time=to_seconds(found.start_ms),
                        end_time=to_seconds(found.end_ms),
                        title=found.title,
                        score=found.score,
                    )
                    for found in result.moments
                ],
                generation_model=finder.key,
                generation_config_id=generation_config.id,
            )
        unfinished.forget()
        delete_objects(platform, replaced.removed_cloud_urls)
        if not result.moments:
            note(context, platform, result.reason)
    return dg.MaterializeResult(
        metadata={
            **answers.shown(platform, key, archive, used),
            "number_of_moments": len(result.moments),
            "kept_by_hand": replaced.kept,
            "reason": result.reason or "found",
            **({"notes": metadata.points(result.notes)} if result.notes else {}),
            "thumbnail": metadata.thumbnail(platform, f"/api/videos/{key}/thumbnail"),
            "moments": metadata.table(
                ["start", "end", "score", "title", "why"],
                [(to_seconds(m.start_ms), to_seconds(m.end_ms), m.score, m.title, m.reason) for m in result.moments],
            ),
        }
    )
