"""The `transcript` asset: what is said, with the time of every word."""

import dagster as dg

from db.queries import transcripts as transcript_queries
from videomoments_dagster.defs import metadata, policies
from videomoments_dagster.defs.assets.audio import audio
from videomoments_dagster.defs.inputs import Overrides, request_config, require_video
from videomoments_dagster.defs.partitions import videos
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.defs.tracking import note, stage
from videomoments_dagster.defs.unfinished import UnfinishedAnswers
from videomoments_dagster.moments.transcript import to_seconds
from videomoments_dagster.requests.stages import Stage
from videomoments_dagster.storage import names

_SHOWN_SENTENCES = 12


@dg.asset(
    deps=[audio],
    partitions_def=videos,
    group_name="videos",
    kinds={"ai", "postgres"},
    owners=["team:speech"],
    retry_policy=policies.TRANSIENT,
    pool=policies.TRANSCRIPTION,
    code_version="2",
)
def transcript(
    context: dg.AssetExecutionContext, platform: PlatformResource, config: Overrides
) -> dg.MaterializeResult:
    """Words and sentences with their times. Nothing said is a result too: an empty transcript."""
    key = context.partition_key
    with stage(context, platform, Stage.TRANSCRIPTION) as progress:
        with platform.database.read() as session:
            video = require_video(session, key)
            wanted = request_config(session, key, config)
        unfinished, sound = UnfinishedAnswers(platform, key, "transcript"), platform.store.require(names.audio(key))
        with (
            platform.temp.directory("transcript", key) as directory,
            platform.store.local_copy(names.audio(key), directory) as path,
        ):
            used = platform.models.speech(
                wanted.speech_model, lambda recognizer: unfinished.transcribe(recognizer, sound.md5, path, progress)
            )
        recognizer, heard = used.model, used.answer
        said = heard.transcript
        with platform.database.session() as session:
            transcript_queries.replace(
                session,
                video.id,
                full_text=said.text,
                word_timestamps=said.word_rows(),
                segment_timestamps=said.segment_rows(),
                language=said.language,
                transcription_service=recognizer.key,
                processing_time_seconds=heard.processing_time_seconds,
            )
        unfinished.forget()
        if not said.words:
            note(context, platform, "No speech was heard.")
    return dg.MaterializeResult(
        metadata={
            "model": recognizer.key,
            **({"instead_of": "; ".join(used.instead_of)} if used.instead_of else {}),
            **({"clock": used.clock_fault} if used.clock_fault else {}),
            "number_of_words": len(said.words),
            "number_of_segments": len(said.sentences),
            "processing_seconds": heard.processing_time_seconds,
            "words_per_minute": 60 * len(said.words) / (video.duration_seconds or 60),
            "beginning": metadata.table(
                ["at", "text"], [(to_seconds(s.start_ms), s.text) for s in said.sentences[:_SHOWN_SENTENCES]]
            ),
        }
    )
