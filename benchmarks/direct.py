"""The work of the graph without Dagster, checks or status: the same functions in the same order. The baseline."""

from pathlib import Path

from db.queries import clips as clip_queries
from db.queries import configs as config_queries
from db.queries import moments as moment_queries
from db.queries import thumbnails as thumbnail_queries
from db.queries import transcripts as transcript_queries
from db.queries import videos as video_queries
from db.session import Database
from videomoments_dagster.identifiers import moment_identifier
from videomoments_dagster.media.audio import extract_audio
from videomoments_dagster.media.cut import CutRequest, CutResult, cut_clips
from videomoments_dagster.media.fetch import fetch
from videomoments_dagster.media.keyframes import keyframe_index
from videomoments_dagster.media.probe import probe
from videomoments_dagster.media.silences import find_silences
from videomoments_dagster.media.thumbnail import Thumbnail, ThumbnailRequest, make_thumbnails
from videomoments_dagster.models.catalog import builtin_moments, builtin_speech
from videomoments_dagster.moments.moment import FindOptions, FoundMoment, Span
from videomoments_dagster.moments.transcript import to_ms, to_seconds
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.settings import get_settings
from videomoments_dagster.storage import names
from videomoments_dagster.storage.factory import open_store

PADDING_SECONDS = PipelineConfig.parse({}).padding_left


def process(video: str, url: str, work: Path) -> int:
    """Everything from the download to the thumbnails; returns the number of moments."""
    settings = get_settings()
    database, store = Database(settings.database_url), open_store(settings)
    try:
        path = fetch(url, work).path
        info = probe(path)
        stored = store.put_file(names.video(video, info.extension), path, "video/mp4")
        with database.session() as session:
            row = video_queries.upsert(
                session, video, source_url=url, cloud_url=store.cloud_url(stored.name), title=None,
                duration_seconds=info.duration_seconds, file_size_kb=stored.size_kb, video_codec=info.video_codec,
                audio_codec=info.audio_codec, resolution=info.resolution, frame_rate=info.frame_rate,
            )  # fmt: skip
        extract_audio(path, work / "audio.wav")
        store.put_file(names.audio(video), work / "audio.wav", "audio/wav")
        heard = builtin_speech().transcribe(work / "audio.wav")
        said = heard.transcript
        with database.session() as session:
            transcript = transcript_queries.replace(
                session, row.id, full_text=said.text, word_timestamps=said.word_rows(),
                segment_timestamps=said.segment_rows(), language="en", transcription_service="builtin_speech",
                processing_time_seconds=heard.processing_time_seconds,
            )  # fmt: skip
        model, options = builtin_moments(), FindOptions()
        found = model.find(said, options).result.moments
        with database.session() as session:
            asked = model.generation_prompt(options)
            prompt = config_queries.prompt(session, asked.system, asked.user)
            config = config_queries.generation_config(
                session, prompt_id=prompt.id, transcript_id=transcript.id, model=model.key, operation_type="generation"
            )
            new = [
                moment_queries.NewMoment(
                    moment_identifier(video, "generated", m.start_ms, m.end_ms),
                    to_seconds(m.start_ms), to_seconds(m.end_ms), m.title, m.score,
                )
                for m in found
            ]  # fmt: skip
            moment_queries.replace_generated(
                session, row.id, new, generation_model=model.key, generation_config_id=config.id
            )
            roots = moment_queries.of_video(session, row.id, refined=False)
        index = keyframe_index(path)
        cuts = [
            CutRequest(
                root.identifier, max(0.0, root.start_time - PADDING_SECONDS),
                min(info.duration_seconds, root.end_time + PADDING_SECONDS), work / f"{root.identifier}.mp4",
            )
            for root in roots
        ]  # fmt: skip
        for root, cut in zip(roots, cut_clips(path, cuts, index), strict=True):
            assert isinstance(cut, CutResult), cut
            clip = store.put_file(names.clip(video, cut.key), cut.destination, "video/mp4")
            with database.session() as session:
                clip_queries.upsert(
                    session, root.id, row.id, cloud_url=store.cloud_url(clip.name), start_time=cut.start_seconds,
                    end_time=cut.end_seconds, padding_left=0, padding_right=0, file_size_kb=clip.size_kb, format="mp4",
                    video_codec=cut.video_codec, audio_codec=cut.audio_codec, resolution=cut.resolution,
                )  # fmt: skip
        silences = [Span(start, end) for start, end in find_silences(work / "audio.wav")]
        scores = {}
        for root in roots:
            moment = FoundMoment(to_ms(root.start_time), to_ms(root.end_time), root.title, 0, "")
            model.refine(moment, Span(0, to_ms(info.duration_seconds)), said, silences, options)
            [score] = model.score([moment], said).scores
            assert score
            scores[root.identifier] = score.value
        with database.session() as session:
            moment_queries.set_scores(session, scores, scoring_model=model.key)
        pictures = [ThumbnailRequest("video", info.duration_seconds / 10, work / "video.jpg")]
        pictures += [
            ThumbnailRequest(root.identifier, (root.start_time + root.end_time) / 2, work / f"{root.identifier}.jpg")
            for root in roots
        ]
        for picture in make_thumbnails(path, pictures):
            assert isinstance(picture, Thumbnail), picture
            store.put_file(names.clip_thumbnail(video, picture.key), picture.destination, "image/jpeg")
        with database.session() as session:
            thumbnail_queries.set_video_thumbnail(
                session, row.id, cloud_url=store.cloud_url(names.clip_thumbnail(video, "video")), file_size_kb=1
            )
        return len(roots)
    finally:
        database.dispose()
