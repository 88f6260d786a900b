"""The `refined_moments` asset: better boundaries for each moment, inside its clip, kept as a child of the moment."""

import dagster as dg

from db.queries import configs as config_queries
from db.queries import moments as moment_queries
from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.assets.clips import clips
from videomoments_dagster.defs.assets.moments import find_options
from videomoments_dagster.defs.inputs import (
    Overrides,
    request_config,
    require_transcript,
    require_video,
    temp_directory,
)
from videomoments_dagster.defs.objects import delete_objects
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import stage
from videomoments_dagster.identifiers import moment_identifier
from videomoments_dagster.models import registry
from videomoments_dagster.moments.moment import Span
from videomoments_dagster.moments.transcript import Transcript, to_ms, to_seconds
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.storage import names


@dg.asset(
    deps=[clips],
    partitions_def=videos,
    group_name="videos",
    kinds={"ai", "postgres"},
    owners=["team:moments"],
    retry_policy=policies.TRANSIENT,
    pool=policies.MOMENT_REFINEMENT,
    code_version="builtin_moments-1",
)
def refined_moments(
    context: dg.AssetExecutionContext, platform: PlatformResource, config: Overrides
) -> dg.MaterializeResult:
    """A refined child for each moment whose boundaries got better. Unsure means unchanged, with the reason here."""
    key = context.partition_key
    with stage(context, platform, Stage.MOMENT_REFINEMENT) as progress:
        with platform.database.read() as session:
            video = require_video(session, key)
            row = require_transcript(session, video)
            wanted = request_config(session, key, config)
            roots = [m for m in moment_queries.of_video(session, video.id, refined=False) if m.clip]
        said = Transcript.from_rows(row.word_timestamps, row.segment_timestamps, row.language or "en")
        silences: list[Span] = []
        if roots:
            from videomoments_dagster.media.silences import find_silences  # numpy: not for every process that loads us

            with (
                temp_directory(platform, "refined_moments", key) as directory,
                platform.store.local_copy(names.audio(key), directory) as path,
            ):
                silences = [Span(start, end) for start, end in find_silences(path)]
        refiner = registry.refiner(wanted.refinement_model or platform.settings.refinement_model)
        refined: list[moment_queries.NewRefined] = []
        shown: list[tuple[object, ...]] = []
        for done, root in enumerate(roots):
            assert root.clip  # noqa: S101  # filtered above
            old = Span(to_ms(root.start_time), to_ms(root.end_time))
            clip = Span(to_ms(root.clip.start_time), to_ms(root.clip.end_time))
            new = refiner.refine(old, clip, said, silences, find_options(wanted))
            shown.append(
                (
                    root.title,
                    root.start_time,
                    to_seconds(new.start_ms),
                    root.end_time,
                    to_seconds(new.end_ms),
                    new.reason,
                )
            )
            if new.changed:
                refined.append(
                    moment_queries.NewRefined(
                        identifier=moment_identifier(key, f"refined:{root.identifier}", new.start_ms, new.end_ms),
                        parent_identifier=root.identifier,
                        start_time=to_seconds(new.start_ms),
                        end_time=to_seconds(new.end_ms),
                        title=root.title,
                    )
                )
            progress((done + 1) / len(roots))
        with platform.database.session() as session:
            prompt = config_queries.prompt(session, refiner.refinement_prompt.system, refiner.refinement_prompt.user)
            generation_config = config_queries.generation_config(
                session,
                prompt_id=prompt.id,
                transcript_id=row.id,
                model=refiner.key,
                operation_type="refinement",
                min_moment_length=wanted.min_moment_length,
                max_moment_length=wanted.max_moment_length,
            )
            replaced = moment_queries.replace_refined(
                session, video.id, refined, generation_model=refiner.key, generation_config_id=generation_config.id
            )
        delete_objects(platform, replaced.removed_cloud_urls)
    return dg.MaterializeResult(
        metadata={
            "model": refiner.key,
            "number_of_moments": len(roots),
            "number_refined": len(refined),
            "thumbnail": metadata.thumbnail(platform, f"/api/videos/{key}/thumbnail"),
            "refined": metadata.table(["title", "start", "refined start", "end", "refined end", "why"], shown),
        }
    )
