"""One host is cut off, one dies, and nothing that was asked for is lost, done twice or left lying about."""

import sys
from collections import Counter
from itertools import pairwise

import pytest

from tests.hosts.network import Network
from tests.hosts.story import VIDEOS, Run, Story, told
from videomoments_dagster.requests.lease import CONFIRM_SECONDS, TTL_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
NOTICED_WITHIN_SECONDS = 15.0
CUT_OFF, DEAD = "worker-b", "worker-a"


@pytest.fixture(scope="module")
def story(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Story:
    story = told(network, tmp_path_factory.mktemp("hosts"))
    sys.stdout.write(_summary(story))
    return story


def test_every_request_ends_completed_with_one_successful_run(story: Story) -> None:
    assert set(story.statuses.values()) == {"completed"}
    assert len(story.statuses) == len(story.attempts()) == VIDEOS
    for attempts in story.attempts().values():
        assert [run.status for run in attempts] == ["FAILURE"] * (len(attempts) - 1) + ["SUCCESS"]


def test_no_run_is_executed_twice_and_attempts_of_one_video_never_overlap(story: Story) -> None:
    for attempts in story.attempts().values():
        for run in attempts:
            assert run.host, "a worker's log says that it began it"
            started = run.steps("STEP_START")
            assert len(started) == len(set(started)), run
        for earlier, later in pairwise(attempts):
            assert not earlier.events or earlier.events[-1][0] < later.events[0][0]
        finished = [step for run in attempts for step in run.steps("STEP_SUCCESS")]
        assert len(finished) == len(set(finished)), "a step that was done is not done again"


def test_a_host_that_is_cut_off_stops_before_its_runs_can_be_given_away_and_works_again_when_healed(
    story: Story,
) -> None:
    assert story.at_work_when_cut
    assert story.fenced_at - story.cut_at < TTL_SECONDS + CONFIRM_SECONDS
    for run in story.at_work_when_cut:
        assert (story.runs[run].host, story.runs[run].status) == (CUT_OFF, "FAILURE")
        assert story.fenced_at < story.runs[run].ended_at < story.cut_at + NOTICED_WITHIN_SECONDS
    its_runs = [run for run in story.runs.values() if run.host == CUT_OFF]
    assert not [run for run in its_runs if _began_in(run, story.cut_at, story.healed_at)]
    assert [run for run in its_runs if _began_in(run, story.healed_at, story.died_at)]


def test_a_run_of_the_dead_host_goes_on_from_its_failed_step_on_the_other(story: Story) -> None:
    """What the first two steps made is on no disk that is still there."""
    assert story.at_work_when_died
    resumed = 0
    for run in story.at_work_when_died:
        lost, again = story.runs[run], story.next_attempt(run)
        assert (lost.host, lost.status) == (DEAD, "FAILURE")
        assert lost.ended_at < story.died_at + NOTICED_WITHIN_SECONDS
        assert (again.host, again.status) == (CUT_OFF, "SUCCESS")
        done = set(lost.steps("STEP_SUCCESS"))
        assert not done & set(again.steps("STEP_START"))
        resumed += done >= {"video", "audio"}
    assert resumed


def test_a_run_that_lost_its_worker_goes_before_those_that_still_wait(story: Story) -> None:
    """But for the runs that were launched before: as many as may be in progress, and a few while it is made."""
    for run in {**story.at_work_when_cut, **story.at_work_when_died}:
        assert len(story.overtaken_by(run)) < 10


def test_a_source_is_fetched_as_often_as_steps_began_to(story: Story) -> None:
    for video, attempts in story.attempts().items():
        began = [step for run in attempts for step in run.steps("STEP_START", "STEP_RESTARTED") if step == "video"]
        assert 1 <= story.fetched[video] <= len(began)
        if len(attempts) == 1:
            assert story.fetched[video] == 1


def test_nothing_stays_locked_or_lying_about(story: Story) -> None:
    assert story.locks == {}
    assert story.slots == []
    assert story.temporary == []
    lost = {f"run:{run.id}:lease" for run in story.runs.values() if run.status == "FAILURE"}
    assert set(story.leases) == lost, "the verdicts on lost runs, which nobody may claim any more"
    assert all(value.startswith("lost: ") for value in story.leases.values())
    assert set(story.workers) == {CUT_OFF}


def _began_in(run: Run, start: float, end: float) -> bool:
    return bool(run.events) and start < run.events[0][0] < end


def _summary(story: Story) -> str:
    """The story in a few lines; `pytest -rP` shows it."""
    attempts, runs = story.attempts(), list(story.runs.values())
    counts = Counter(len(each) for each in attempts.values())
    shares = Counter(run.host for run in runs if run.status == "SUCCESS")

    def takeovers(lost: dict[str, int], since: float) -> str:
        resumed = [(story.runs[run].ended_at - since, story.next_attempt(run).events[0][0] - since) for run in lost]
        return ", ".join(f"{noticed:.1f} s and went on after {again:.1f} s" for noticed, again in resumed)

    lines = [
        f"{len(runs)} runs for {len(attempts)} videos: "
        + ", ".join(f"{videos} took {number}" for number, videos in sorted(counts.items())),
        "completed by " + ", ".join(f"{host}: {number}" for host, number in sorted(shares.items())),
        f"{CUT_OFF} cut off for {story.healed_at - story.cut_at:.0f} s: "
        f"its processes ended after {story.fenced_at - story.cut_at:.1f} s;",
        f"  its runs were lost after {takeovers(story.at_work_when_cut, story.cut_at)};",
        f"  it works again {story.works_again_at - story.healed_at:.1f} s after the healing",
        f"{DEAD} killed: its runs were lost after {takeovers(story.at_work_when_died, story.died_at)}",
        f"{sum(story.fetched.values())} fetches of {len(story.fetched)} sources",
        f"start {story.submitted_at - story.started_at:.0f} s, first run of {CUT_OFF} and its cut at "
        f"{story.cut_at - story.started_at:.0f} s, healing at {story.healed_at - story.started_at:.0f} s, "
        f"death at {story.died_at - story.started_at:.0f} s, all over at {story.over_at - story.started_at:.0f} s",
    ]
    return "".join(f"{line}\n" for line in lines)
