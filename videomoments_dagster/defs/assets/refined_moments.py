"""The `refined_moments` asset: better boundaries for each moment, inside its clip, kept as a child of the moment."""

import dagster as dg

from db.queries import moments as moment_queries
from videomoments_dagster.defs import answers, metadata, policies
from videomoments_dagster.defs.assets.clips import clips
from videomoments_dagster.defs.assets.moments import moments
from videomoments_dagster.defs.inputs import (
    Overrides,
    find_options,
    request_config,
    require_transcript,
    require_video,
)
from videomoments_dagster.defs.objects import delete_objects
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.refining import Refining, refined_rows, roots_of, silences_of
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import stage
from videomoments_dagster.defs.unfinished import UnfinishedAnswers
from videomoments_dagster.moments.archive import Archive, digest
from videomoments_dagster.moments.transcript import Transcript, to_seconds
from videomoments_dagster.requests.stages import Stage


@dg.asset(
    deps=[moments, clips],  # moments too: the clips are left out of a run whose refinement model reads text only
    partitions_def=videos,
    group_name="videos",
    kinds={"ai", "postgres"},
    owners=["team:moments"],
    retry_policy=policies.TRANSIENT,
    pool=policies.MOMENT_REFINEMENT,
    code_version="2",
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
            roots = roots_of(session, video, wanted.moment)
        said = Transcript.from_rows(row.word_timestamps, row.segment_timestamps, row.language or "en")
        refining = Refining(
            platform=platform,
            video=video,
            wanted=wanted,
            roots=roots,
            transcript=said,
            silences=silences_of(platform, key) if roots else [],
            on_progress=progress,
        )
        unfinished = UnfinishedAnswers(platform, key, "refined_moments")
        used = platform.models.chat(
            "refinement", wanted.refinement_model, answers.sampling_of(wanted), refining.with_model, unfinished
        )
        archive = Archive(
            "refined_moments", used.model.key, find_options(wanted), digest(said), refining.exchanges, refining.inputs
        )
        answers.keep(platform, key, archive, alone=wanted.moment is not None)
        with platform.database.session() as session:
            replaced = moment_queries.replace_refined(
                session,
                video.id,
                refined_rows(session, key, refining.outcomes, wanted, row.id),
                only_parent=roots[0].identifier if wanted.moment else None,
            )
        unfinished.forget()
        delete_objects(platform, replaced.removed_cloud_urls)
    changed = [outcome for outcome in refining.outcomes if outcome.new.changed]
    return dg.MaterializeResult(
        metadata={
            **answers.shown(platform, key, archive, used),
            "number_of_moments": len(roots),
            "number_refined": len(changed),
            "thumbnail": metadata.thumbnail(platform, f"/api/videos/{key}/thumbnail"),
            "refined": metadata.table(
                ["title", "start", "refined start", "end", "refined end", "model", "why"],
                [
                    (
                        outcome.root.title,
                        outcome.root.start_time,
                        to_seconds(outcome.new.start_ms),
                        outcome.root.end_time,
                        to_seconds(outcome.new.end_ms),
                        outcome.model.key,
                        outcome.new.reason,
                    )
                    for outcome in refining.outcomes
                ],
            ),
        }
    )
