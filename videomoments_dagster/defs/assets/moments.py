"""The `moments` asset: titled stretches of the video, found in its transcript."""

import dagster as dg

from db.queries import configs as config_queries
from db.queries import moments as moment_queries
from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.assets.transcript import transcript
from videomoments_dagster.defs.inputs import Overrides, request_config, require_transcript, require_video
from videomoments_dagster.defs.objects import delete_objects
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import note, stage
from videomoments_dagster.identifiers import moment_identifier
from videomoments_dagster.models import registry
from videomoments_dagster.moments.moment import FindOptions
from videomoments_dagster.moments.transcript import Transcript, to_ms, to_seconds
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import Stage


@dg.asset(
    deps=[transcript],
    partitions_def=videos,
    group_name="videos",
    kinds={"ai", "postgres"},
    owners=["team:moments"],
    retry_policy=policies.TRANSIENT,
    pool=policies.MOMENT_GENERATION,
    code_version="builtin_moments-1",
)
def moments(context: dg.AssetExecutionContext, platform: PlatformResource, config: Overrides) -> dg.MaterializeResult:
    """Moments with title and score. Replaces what a model made and nobody edited; none found is a result."""
    key = context.partition_key
    with stage(context, platform, Stage.MOMENT_GENERATION):
        with platform.database.read() as session:
            video = require_video(session, key)
            row = require_transcript(session, video)
            wanted = request_config(session, key, config)
            said = Transcript.from_rows(row.word_timestamps, row.segment_timestamps, row.language or "en")
        finder = registry.finder(wanted.generation_model or platform.settings.generation_model)
        result = finder.find(said, find_options(wanted))
        with platform.database.session() as session:
            prompt = config_queries.prompt(session, finder.generation_prompt.system, finder.generation_prompt.user)
            generation_config = config_queries.generation_config(
                session,
                prompt_id=prompt.id,
                transcript_id=row.id,
                model=finder.key,
                operation_type="generation",
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
        delete_objects(platform, replaced.removed_cloud_urls)
        if not result.moments:
            note(context, platform, result.reason)
    return dg.MaterializeResult(
        metadata={
            "model": finder.key,
            "number_of_moments": len(result.moments),
            "kept_by_hand": replaced.kept,
            "reason": result.reason or "found",
            "thumbnail": metadata.thumbnail(platform, f"/api/videos/{key}/thumbnail"),
            "moments": metadata.table(
                ["start", "end", "score", "title", "why"],
                [(to_seconds(m.start_ms), to_seconds(m.end_ms), m.score, m.title, m.reason) for m in result.moments],
            ),
        }
    )


def find_options(config: PipelineConfig) -> FindOptions:
    return FindOptions(
        min_length_ms=to_ms(config.min_moment_length),
        max_length_ms=to_ms(config.max_moment_length),
        min_moments=config.min_moments,
        max_moments=config.max_moments,
    )
