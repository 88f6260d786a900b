"""Clips of moments that a person made or moved: cut again, alone, from a real video; the others stay as they are."""

from pathlib import Path

import dagster as dg
import pytest

from db.models import Moment
from db.queries import clips as clip_queries
from db.queries import editing
from db.queries import moments as moment_queries
from db.queries import thumbnails as thumbnail_queries
from db.queries import videos as video_queries
from db.queries.clips import ClipView
from tests import factories
from tests.defs.pipeline import execute, submit
from tests.media.make import Drawing, draw
from videomoments_dagster.defs import jobs
from videomoments_dagster.defs.assets import clips as clips_asset
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.requests.stages import PipelineType
from videomoments_dagster.storage import names

FIRST, SECOND, CHILD = "a" * 16, "b" * 16, "c" * 16
Times = tuple[float, float]


@pytest.fixture
def film(platform: PlatformResource, tmp_path: Path) -> None:
    """Twenty seconds of video, a keyframe every second; two moments by hand and one refined child of the second."""
    path = draw(tmp_path / "film.mp4", Drawing(seconds=20.0))
    name = names.video("film", "mp4")
    platform.store.put_file(name, path, "video/mp4")
    with platform.database.session() as session:
        cloud_url = platform.store.cloud_url(name)
        video = factories.video(session, identifier="film", duration_seconds=20.0, cloud_url=cloud_url)
        factories.moment(session, video, 2, 4, identifier=FIRST, generation_model=None)
        second = factories.moment(session, video, 10, 12, identifier=SECOND, generation_model=None)
        factories.refined(session, second, identifier=CHILD, start_time=10.5, end_time=11.5)


def cut(
    platform: PlatformResource, instance: dg.DagsterInstance, moment: str | None = None
) -> dg.ExecuteInProcessResult:
    """As the ingest sensor launches it."""
    paddings = {"padding_left": 0.5, "padding_right": 0.5}
    config = PipelineConfig.parse(paddings | ({"moment": moment} if moment else {}))
    kind = PipelineType.CLIPS_ONLY
    request = submit(platform, "film", None, config.as_json(), kind)
    return execute(platform, instance, "film", request_id=request, kind=kind, run_config=jobs.alone(kind, config))


def stored(platform: PlatformResource) -> dict[str, ClipView]:
    with platform.database.read() as session:
        found = clip_queries.of_video(session, video_queries.require(session, "film").id)
    return {clip.moment_identifier: clip for clip in found}


def generations(platform: PlatformResource) -> dict[str, int]:
    objects = [each for room in ("clips", "thumbnails") for each in platform.store.list(f"{room}/film/")]
    return {each.name: each.generation for each in objects}


def move(platform: PlatformResource, moment: str, start_time: float, end_time: float) -> bool:
    """Whether its clip shows it still."""
    with platform.database.session() as session:
        video = video_queries.require(session, "film")
        changed, _ = editing.change(session, video, moment, lambda _: None, start_time=start_time, end_time=end_time)
    return changed.playable is not None


def is_playable(platform: PlatformResource, moment: str) -> bool:
    with platform.database.read() as session:
        found = moment_queries.view(session, moment)
    return found is not None and found.playable is not None


@pytest.mark.usefixtures("film")
def test_a_moved_moment_gets_a_new_clip_and_picture_and_the_others_keep_theirs(
    platform: PlatformResource, instance: dg.DagsterInstance
) -> None:
    assert cut(platform, instance).success
    before, objects = stored(platform), generations(platform)
    assert set(before) == {FIRST, SECOND}
    assert not move(platform, FIRST, 15, 17)
    assert not move(platform, CHILD, 7, 8)
    assert cut(platform, instance, FIRST).success
    after, written = stored(platform), generations(platform)
    assert (after[FIRST].start_time, after[FIRST].end_time) == (14, pytest.approx(17.5, abs=0.1))
    assert after[SECOND] == before[SECOND]
    new = {name for name in objects if written[name] != objects[name]}
    assert new == {names.clip("film", FIRST), names.clip_thumbnail("film", FIRST)}
    assert is_playable(platform, FIRST) and not is_playable(platform, CHILD)
    every = cut(platform, instance)
    [materialization] = every.asset_materializations_for_node("clips")
    assert materialization.metadata["cut_now"].value == 1, "the first one fits; the second holds its child again"
    assert is_playable(platform, SECOND) and is_playable(platform, CHILD)
    assert generations(platform)[names.clip("film", FIRST)] == written[names.clip("film", FIRST)]
    assert [found.check_name for found in every.get_asset_check_evaluations() if not found.passed] == []


KEPT_OR_NOT: list[tuple[Times, Times, Times, Times | None, float, bool]] = [
    # the clip, what it was cut for, where its moment and that one's refinement are now, the padding
    ((5, 19.96), (10, 18), (10, 18), None, 5.0, True),
    ((5, 19.96), (10, 18), (10, 20), None, 5.0, False),  # moved to the video's end, which the clip holds already
    ((5, 19.96), (10, 20), (10, 20), None, 5.0, True),
    ((5, 19.96), (10, 18), (10, 18), (11, 20), 5.0, True),
    ((10, 15.96), (10, 16), (9.9, 16), None, 0.0, False),  # moved by less than a cut may be off
    ((10, 15.96), (10, 16), (10, 16.1), None, 0.0, False),
    ((10, 15.96), (10, 15), (10, 15), (12, 16), 0.0, True),
]


def test_a_clip_that_is_kept_shows_its_moments_and_one_that_does_not_is_cut_again(
    platform: PlatformResource, tmp_path: Path
) -> None:
    name = names.clip("film", FIRST)
    platform.store.put_bytes(name, b"cut before", "video/mp4")
    with platform.database.session() as session:
        for case in KEPT_OR_NOT:
            held, cut_for, times, child, padding, is_kept = case
            video = factories.video(session, duration_seconds=20.0)
            root = factories.moment(session, video, *times)
            factories.clip(
                session,
                root,
                cloud_url=platform.store.cloud_url(name),
                start_time=held[0],
                end_time=held[1],
                padding_left=cut_for[0] - held[0],
                padding_right=round(held[1] - cut_for[1], 3),
            )
            if child:
                edited_at = factories.BEGINNING
                factories.refined(session, root, start_time=child[0], end_time=child[1], edited_at=edited_at)
            roots = moment_queries.of_video(session, video.id, refined=False)
            children = moment_queries.of_video(session, video.id, refined=True)
            asked = PipelineConfig.parse({"padding_left": padding, "padding_right": padding})
            wanted = clips_asset._wanted(platform, video, asked, roots, children, tmp_path)
            assert [each.key for each in wanted] == ([] if is_kept else [root.identifier]), case
            assert all(each.playable for each in [*roots, *children]) is is_kept, case


@pytest.mark.usefixtures("film")
def test_a_moment_that_is_deleted_while_it_is_cut_leaves_no_clip(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = clips_asset._keep

    def delete_first(*arguments: object) -> None:
        with platform.database.session() as session:
            session.query(Moment).filter(Moment.identifier == FIRST).delete()
        keep(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(clips_asset, "_keep", delete_first)
    assert cut(platform, instance).success
    assert set(stored(platform)) == {SECOND}
    assert platform.store.stat(names.clip("film", FIRST)) is None
    with platform.database.read() as session:
        pictures = thumbnail_queries.of_video(session, video_queries.require(session, "film").id)
    assert [each.moment_identifier for each in pictures] == [None, SECOND]
