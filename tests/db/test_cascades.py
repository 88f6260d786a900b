"""What goes with what: deleting one video takes all of its rows, and nothing of another's."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Base, GenerationConfig, Moment, PipelineRun, Prompt, TranscriptPassage, Video, WebhookDelivery
from db.queries import configs, deletion, transcripts
from tests import factories as make

OF_NO_VIDEO = {"api_keys", "generation_configs", "prompts"}


def whole_video(session: Session, identifier: str, config: GenerationConfig | None = None) -> Video:
    """A video with a row in every table."""
    video = make.video(session, identifier=identifier)
    transcript = make.transcript(session, video)
    passage = {"number": 0, "start_time": 0.0, "end_time": 0.4, "text": "Hello", "word_starts_ms": [0]}
    session.add(TranscriptPassage(transcript_id=transcript.id, **passage))
    make.thumbnail(session, video)
    config_id = config.id if config else None
    root = make.moment(session, video, generation_config_id=config_id)
    make.thumbnail(session, make.clip(session, root))
    make.refined(session, root, generation_config_id=config_id)
    make.moment(session, video, 30, generation_model=None)
    make.run(session, video, generation_config_id=config_id)
    request = make.request(session, identifier)
    delivery = {"identifier": f"delivery-{identifier}", "event": "completed", "payload": {}}
    session.add(WebhookDelivery(request_id=request.request_id, **delivery))
    session.flush()
    return video


def delete(session: Session, identifier: str) -> bool:
    """Whether there was anything."""
    known = deletion.is_known(session, identifier)
    deletion.delete_rows(session, identifier)
    deletion.delete_requests(session, identifier)
    return known


def counts(session: Session) -> dict[str, int]:
    return {
        table.name: session.scalar(select(func.count()).select_from(table)) or 0
        for table in Base.metadata.sorted_tables
    }


def test_a_shared_configuration_survives_the_deletion_of_one_video(session: Session) -> None:
    """The trap: a cascade from the transcript would take the configuration, and with it the other video's moments."""
    first, second = make.video(session, identifier="first"), make.video(session, identifier="second")
    prompt = configs.prompt(session, "system", "user")
    parameters = {"prompt_id": prompt.id, "model": "m", "operation_type": "generation"}
    of_second = configs.generation_config(session, transcript_id=make.transcript(session, second).id, **parameters)
    of_first = configs.generation_config(session, transcript_id=make.transcript(session, first).id, **parameters)
    assert of_first.id == of_second.id
    for video in (first, second):
        root = make.moment(session, video, generation_config_id=of_first.id)
        make.refined(session, root, generation_config_id=of_first.id)
    run = make.run(session, second, generation_config_id=of_first.id)

    assert delete(session, "first")

    session.expire_all()
    shared = session.scalars(select(GenerationConfig)).one()
    assert shared.id == of_first.id
    assert shared.transcript_id is None
    left = session.scalars(select(Moment)).all()
    assert [(moment.video_id, moment.generation_config_id) for moment in left] == [(second.id, shared.id)] * 2
    assert session.get_one(PipelineRun, run.id).generation_config_id == shared.id


def test_transcribing_again_keeps_the_configuration_and_its_moments(session: Session) -> None:
    video = make.video(session)
    config = make.config(session, transcript_id=make.transcript(session, video).id)
    moment = make.moment(session, video, generation_config_id=config.id)
    transcripts.replace(
        session,
        video.id,
        full_text="Anew.",
        word_timestamps=[],
        segment_timestamps=[],
        language="en",
        transcription_service="another",
        processing_time_seconds=None,
    )
    session.expire_all()
    assert session.get_one(GenerationConfig, config.id).transcript_id is None
    assert session.get_one(Moment, moment.id).generation_config_id == config.id


def test_deleting_a_video_takes_everything_of_it_and_nothing_else(session: Session) -> None:
    config = make.config(session)
    before = counts(session)
    whole_video(session, "first", config)
    with_one = counts(session)
    assert all(with_one[name] > before[name] for name in set(before) - OF_NO_VIDEO)
    whole_video(session, "second", config)
    assert delete(session, "second")
    assert counts(session) == with_one
    assert delete(session, "first")
    assert counts(session) == before


def test_deleting_a_video_that_was_never_stored_takes_its_requests_and_failed_runs(session: Session) -> None:
    before = counts(session)
    make.request(session, "never-stored", state="finished")
    make.run(session, None, status="failed")
    make.run(session, None, identifier="pipeline:never-stored-2:1", status="failed")
    assert delete(session, "never-stored")
    assert session.scalars(select(PipelineRun.identifier)).all() == ["pipeline:never-stored-2:1"]
    assert counts(session)["pipeline_requests"] == before["pipeline_requests"]


def test_deleting_twice_says_so(session: Session) -> None:
    whole_video(session, "once")
    assert delete(session, "once")
    assert not delete(session, "once")


def test_deleting_a_prompt_takes_its_configurations_and_their_moments(session: Session) -> None:
    config = make.config(session)
    make.moment(session, make.video(session), generation_config_id=config.id)
    session.delete(session.get_one(Prompt, config.prompt_id))
    session.flush()
    assert session.scalars(select(Moment)).all() == []


def test_deleting_a_configuration_keeps_the_history(session: Session) -> None:
    config = make.config(session)
    run = make.run(session, make.video(session), generation_config_id=config.id)
    session.delete(config)
    session.flush()
    session.refresh(run)
    assert run.generation_config_id is None
