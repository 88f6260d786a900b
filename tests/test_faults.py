"""What `make faults` says of itself: it calls nothing recovered that was not tried."""

from pathlib import Path

import pytest
import requests

from faults.__main__ import _try, main
from faults.inspection import Verdict
from faults.kinds import FAULTS, Fault, Scene
from faults.report import Outcome, in_turn
from faults.servers import KEPT_WITHIN_SECONDS, Servers, servers
from faults.site import Site
from tests.stack.platforms import Platform
from tests.web import serving
from videomoments_dagster.requests.stages import Stage


def test_faults_that_were_not_tried_are_no_success_and_no_table_of_some_replaces_that_of_all(
    capsys, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="Not all that was planned"):
        main(["--minutes", "0", "--keep", str(tmp_path), "none"])
    told = capsys.readouterr().out
    assert told.startswith("**Incomplete:** 0 of 2 planned injections were tried") and "| none | 2 | 0 | 0 |" in told
    with pytest.raises(SystemExit, match="2"):
        main(["--minutes", "0", "--write", "none"])
    assert "--write is for all faults" in capsys.readouterr().err


def test_an_injection_that_fails_by_itself_is_a_finding_and_ends_nothing() -> None:
    def act(_: Scene) -> None:
        raise OSError("no such process")

    with serving() as web:
        site = Site(Platform(Path("/nowhere"), usual_ports=True), Servers(web, Path("none.mp4")))
        verdict = _try(site, (Fault("odd", act, submits=False), None), "v1", 5)
    assert not verdict.recovered and "the injection itself failed: OSError: no such process" in verdict.broken[0]


def test_a_run_succeeds_only_when_all_that_was_planned_recovered_and_its_counts_add_up() -> None:
    plan = list(in_turn(FAULTS))
    assert [fault for fault, _ in plan[: len(FAULTS)]] == list(FAULTS), "each has had its first turn after one round"
    outcome = Outcome(plan)
    for fault, _ in plan[:-1]:
        outcome.add(fault, Verdict())
    last, _ = plan[-1]
    assert not outcome.succeeded, "one was not tried"
    outcome.add(last, Verdict(lost=["one"], duplicated=["two", "three"], broken=["four"]))
    assert outcome.complete and not outcome.succeeded, "one did not recover"
    row = next(line for line in outcome.report(seed=1, seconds=1).splitlines() if line.startswith(f"| {last.name} |"))
    planned, tried, recovered, lost, duplicated, broken = map(int, row.split(" | ")[1:7])
    assert planned == tried == recovered + lost + duplicated + broken
    outcome.verdicts[last.name][-1] = Verdict()
    assert outcome.succeeded
    outcome.trouble.append("It was interrupted.")
    assert not outcome.succeeded


def test_what_is_held_hangs_until_it_is_let_go_and_a_question_that_was_answered_is_not_to_be_asked_again(
    tmp_path: Path,
) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(bytes(1000))
    question = {"model": "stub", "messages": [{"role": "user", "content": "rate [1 this"}]}
    with servers(video) as around:
        chat = around.stubs[0].url + "/v1/chat/completions"
        assert requests.post(chat, json=question, timeout=10).ok
        assert around.bucket
        with around.hangs_in(Stage.VIDEO_DOWNLOAD):
            around.store_hangs = True
            for url in (around.source("held"), around.bucket.url):
                with pytest.raises(requests.RequestException):
                    _ = requests.get(url, timeout=0.2).content
        with around.hangs_in(Stage.SCORING), pytest.raises(requests.Timeout):
            requests.post(chat, json=question, timeout=0.2)
        assert requests.get(around.source("free"), timeout=10).content == video.read_bytes()
        [received_at] = around.received_at.values()
        long_before, just_before = received_at + KEPT_WITHIN_SECONDS + 0.001, received_at + KEPT_WITHIN_SECONDS / 2
        around.asked_at = dict.fromkeys(around.asked_at, long_before + 1)
        assert len(around.asked_in_vain(long_before)) == 1
        assert around.asked_in_vain(just_before) == [], "it may not have been kept yet"
        assert around.asked_in_vain(long_before + 2) == [], "it was not asked again after the fault"
