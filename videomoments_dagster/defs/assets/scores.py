"""The `scores` asset: 0 to 10 for every moment a model made, with a written reason."""

import dagster as dg

from db.queries import moments as moment_queries
from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.assets.moments import moments
from videomoments_dagster.defs.assets.refined_moments import refined_moments
from videomoments_dagster.defs.inputs import Overrides, request_config, require_transcript, require_video
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import stage
from videomoments_dagster.models import registry
from videomoments_dagster.moments.moment import FoundMoment
from videomoments_dagster.moments.transcript import Transcript, to_ms
from videomoments_dagster.requests.stages import Stage


@dg.asset(
    deps=[moments, refined_moments],
    partitions_def=videos,
    group_name="videos",
    kinds={"ai", "postgres"},
    owners=["team:moments"],
    retry_policy=policies.TRANSIENT,
    code_version="builtin_moments-1",
)
def scores(context: dg.AssetExecutionContext, platform: PlatformResource, config: Overrides) -> dg.MaterializeResult:
    """Scores of the moments and their refined children."""
    key = context.partition_key
    with stage(context, platform, Stage.SCORING):
        with platform.database.read() as session:
            video = require_video(session, key)
            row = require_transcript(session, video)
            wanted = request_config(session, key, config)
            found = moment_queries.of_video(session, video.id)
        said = Transcript.from_rows(row.word_timestamps, row.segment_timestamps, row.language or "en")
        scorer = registry.scorer(wanted.scoring_model or platform.settings.scoring_model)
        scored = [
            (
                moment,
                scorer.score(
                    FoundMoment(to_ms(moment.start_time), to_ms(moment.end_time), moment.title, moment.score or 0, ""),
                    said,
                ),
            )
            for moment in found
        ]
        with platform.database.session() as session:
            moment_queries.set_scores(
                session, {moment.identifier: score.value for moment, score in scored}, scoring_model=scorer.key
            )
    values = [score.value for _, score in scored]
    return dg.MaterializeResult(
        metadata={
            "model": scorer.key,
            "number_scored": len(values),
            "mean_score": sum(values) / len(values) if values else 0.0,
            "best_score": max(values, default=0),
            "scores": metadata.table(
                ["start", "score", "title", "refined", "why"],
                [(m.start_time, s.value, m.title, "yes" if m.is_refined else "", s.reason) for m, s in scored],
            ),
        }
    )
