"""What chat models write: understood where it says something, refused where it does not, never believed too much."""

import json
import time

import pytest

from videomoments_dagster.errors import ModelAnswerInvalid
from videomoments_dagster.moments import fields
from videomoments_dagster.moments.answers import (
    BACKWARDS,
    MOST_CLAIMS,
    NOT_THERE,
    OUTSIDE,
    UNREADABLE,
    Claims,
    claims_of,
)
from videomoments_dagster.moments.transcript import Sentence
from videomoments_dagster.moments.windows import Window

_SENTENCES = [Sentence(f"Sentence {k}.", 10_000 * k, 10_000 * k + 9_000) for k in range(100)]
_MOMENT = '{"first": 12, "last": 18, "title": "Bread", "score": 7, "reason": "It is good."}'
_ALL = Window(0, 100)


def read(answer: str, window: Window = _ALL) -> Claims:
    return claims_of(answer, window, _SENTENCES)


def places(answer: str, window: Window = _ALL) -> list[tuple[int, int]]:
    return [(c.first, c.last) for c in read(answer, window).claims]


@pytest.mark.parametrize(
    "answer",
    [
        f'{{"moments": [{_MOMENT}]}}',
        f"[{_MOMENT}]",
        _MOMENT,
        f'<think>\nMaybe {{"moments": [{{"first": 1, "last": 2}}]}}?\n</think>\n{{"moments": [{_MOMENT}]}}',
        f'Let me see: {{"moments": []}} or so.\n</think>\n\n{{"moments": [{_MOMENT}]}}',
        f'```json\n{{"moments": [{_MOMENT}]}}\n```',
        f'Here are the moments [12] to [18]:\n\n```\n{{"moments": [{_MOMENT}]}}\n```\nI hope this helps {{you}}.',
        f'Of the form {{"moments": []}}, I found: {{"moments": [{_MOMENT}]}} in 100 sentences.',
        f'{{"moments": [{_MOMENT}]',
        f'{{"moments": [{_MOMENT}, {{"first": 30, "last": 3',
        f'{{"moments": [{_MOMENT},]}}',
        _MOMENT.replace('"', "'"),
        f"{{'moments': [{_MOMENT.replace(chr(34), chr(39))}]}}",
        f'{{"result": {{"Moments": [{_MOMENT}]}}}}',
        f'{{"language": "en", "segments": [{_MOMENT}], "count": 1}}',
        f'{{"moments": {{"1": {_MOMENT}}}}}',
        f'{{"moments": {_MOMENT}}}',
    ],
)
def test_the_same_moment_however_it_is_wrapped(answer: str) -> None:
    (claim,) = read(answer).claims
    assert (claim.first, claim.last, claim.title, claim.score, claim.reason) == (11, 18, "Bread", 7, "It is good.")


@pytest.mark.parametrize(
    "place",
    [
        {"first": "12", "last": "18"},
        {"first": "[12]", "last": "[18]"},
        {"first": "[12 4s]", "last": "[18 11s]"},
        {"first": "S12", "last": "S18"},
        {"first": "12.", "last": 18.0},
        {"first": "12-18"},
        {"first": "12\u201318", "last": None},
        {"start": 12, "end": 18},
        {"Start Sentence": 12, "end-sentence": 18},
        {"first_sentence": 12, "last_sentence": 18},
        {"sentences": [12, 18]},
        {"sentences": [12, 13, 14, 15, 16, 17, 18]},
        {"sentences": "12 to 18"},
        {"sentences": ["[12]", "[18]"]},
        {"first": {"number": 12}, "last": {"number": 18}},
        {"first": 12, "last": 18, "start_time": 3.0, "end_time": 4.0},
        {"start_time": 110.4, "end_time": 178},
        {"start_time": "1:50", "end_time": "02:59"},
        {"start_time": "00:01:50.2", "end_time": "00:02:58.9"},
        {"start": "01:50", "end": "02:59"},
        {"start": 110.5, "end": 179.5},
        {"start_time": "110.4s", "end_time": "178 seconds"},
    ],
)
def test_the_same_sentences_however_they_are_named(place: dict[str, object]) -> None:
    assert places(json.dumps({"moments": [place]})) == [(11, 18)]


@pytest.mark.parametrize(
    "answer", ['{"moments": []}', "[]", '```json\n{"moments": []}\n```', '{"moments": null}', "None. []"]
)
def test_an_empty_list_says_that_there_are_none(answer: str) -> None:
    assert read(answer) == Claims(())


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "   ",
        "I could not find any moments.",
        "{}",
        "null",
        "[12, 18]",
        '{"error": "context too long"}',
        '{"moments": ["the first", "the second"]}',
        '{"moments": [{"title": "Nowhere"}]}',
        f'<think>It may be {{"moments": [{_MOMENT}]}} but',
        f'<think>It may be {{"moments": [{_MOMENT}]}}</think>',
        "<html><body>502 Bad Gateway</body></html>",
        "[" * 50_000,
        '{"moments": ' * 5_000,
    ],
)
def test_an_answer_that_says_nothing_about_moments_is_refused(answer: str) -> None:
    with pytest.raises(ModelAnswerInvalid):
        read(answer)


@pytest.mark.parametrize(
    "answer",
    [
        f'{{"moments": [{_MOMENT}]}}\nNote: I used the form {{"moments": []}} as asked.',
        f'[{_MOMENT}]\nNote: I used the form {{"moments": []}} as asked.',
        f'```json\n{{"moments": [{_MOMENT}]}}\n```\nWith nothing found: ```json\n{{"moments": []}}\n```',
        f'{{"moments": [{_MOMENT},]}}\nNote: I used the form {{"moments": []}} as asked.',
        f'{{"moments": [{_MOMENT}]}}\nThe form: {{"moments": [{{"first": 12, "last": 31, "title": "..."}}]}}',
        f'As in {{"moments": [{{"first": 1, "last": 2}}]}}. Now: {{"moments": [{_MOMENT}]}}. Else {{"moments": null}}',
    ],
)
def test_the_form_of_answers_repeated_after_the_answer_does_not_replace_it(answer: str) -> None:
    assert places(answer) == [(11, 18)]


def test_the_form_of_answers_repeated_before_an_empty_answer_is_no_moment() -> None:
    form = '{"moments": [{"first": 12, "last": 31, "title": "...", "score": 7, "reason": "..."}]}'
    assert places(f'Of the form {form}, there are none: {{"moments": []}}') == []


@pytest.mark.parametrize(
    "tail", [', {"first": 20, "last": 2', ', {"first": 3, "title": "The "best" bread", "last": 9}]}']
)
def test_a_long_broken_answer_keeps_all_that_is_sound(tail: str) -> None:
    listed = ", ".join(json.dumps({"first": k % 90 + 1, "last": k % 90 + 5, "reason": "So. " * 20}) for k in range(450))
    assert len(listed) > 45_000
    assert len(places(f'{{"moments": [{listed}{tail}')) == 450


def test_an_answer_that_can_hardly_be_repaired_takes_no_longer_for_being_long() -> None:
    began = time.process_time()
    read("{'first': 'it's 'b' c', " * 2_500)
    assert time.process_time() - began < 3  # 0.5 s here; 6 s when all of it is repaired


def test_an_unescaped_quote_costs_no_moment() -> None:
    answer = f'{{"moments": [{{"first": 2, "last": 4, "title": "The "best" bread"}}, {_MOMENT}]}}'
    assert places(answer) == [(1, 4), (11, 18)]


def test_moments_one_a_line_without_a_list_are_all_read() -> None:
    assert places(f'{_MOMENT}\n{{"first": 20, "last": 25}}') == [(11, 18), (19, 25)]


def test_a_number_cut_off_at_the_end_is_not_believed() -> None:
    assert places(f'{{"moments": [{_MOMENT}, {{"first": 20, "last": 2') == [(11, 18)]


@pytest.mark.parametrize(
    ("place", "cause"),
    [
        ({"first": 20, "last": 40}, NOT_THERE),
        ({"first": 49, "last": 60}, NOT_THERE),
        ({"first": 60, "last": 82}, NOT_THERE),
        ({"first": -3, "last": 60}, NOT_THERE),
        ({"first": 0, "last": 10**30}, UNREADABLE),
        ({"first": 70, "last": 60}, BACKWARDS),
        ({"first": 60}, UNREADABLE),
        ({"first": 60, "last": "the end"}, UNREADABLE),
        ({"first": True, "last": 60}, UNREADABLE),
        ({"start_time": 600, "end_time": 90_000}, OUTSIDE),
        ({"start_time": "10:00", "end_time": "15:30"}, OUTSIDE),
        ({"start_time": 0, "end_time": 600}, OUTSIDE),
        ({"start_time": 700, "end_time": 600}, BACKWARDS),
        ({"start_time": 600, "end_time": "soon"}, UNREADABLE),
    ],
)
def test_what_was_not_shown_is_left_out_and_counted(place: dict[str, object], cause: str) -> None:
    found = read(json.dumps({"moments": [place, {"first": 55, "last": 58}]}), Window(50, 80))
    assert [(c.first, c.last) for c in found.claims] == [(54, 58)]
    assert found.left_out == {cause: 1}


def test_off_by_one_at_the_window_s_edge_is_its_edge() -> None:
    answer = json.dumps({"moments": [{"first": 50, "last": 81}]})
    assert places(answer, Window(50, 80)) == [(50, 80)]
    assert places(json.dumps({"moments": [{"first": 0, "last": 101}]})) == [(0, 100)]


def test_no_answer_is_too_long_to_be_read() -> None:
    found = read(json.dumps({"moments": [{"first": 1, "last": 2}] * (MOST_CLAIMS + 7)}))
    assert len(found.claims) == MOST_CLAIMS
    assert sum(found.left_out.values()) == 7


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("  Two\nlines\x00 and\u202e tricks ", "Two lines and tricks"),
        ("**Bold** <b>claims</b>", "Bold claims"),
        ("# 'Quoted'", "Quoted"),
        ("<script>alert(1)</script>", "alert(1)"),
        ("word " * 60, "word " * 23 + "word\u2026"),
        ("***", ""),
        (None, ""),
        (["no", "text"], ""),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("PDF\u200c\u0647\u0627", "PDF\u200c\u0647\u0627"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),
        ("\u0d05\u0d35\u0d28\u0d4d\u200d so", "\u0d05\u0d35\u0d28\u0d4d\u200d so"),
        (
            "A \U0001f469\U0001f3fd\u200d\U0001f52c \u2764\ufe0f\u200d\U0001f525",
            "A \U0001f469\U0001f3fd\u200d\U0001f52c \u2764\ufe0f\u200d\U0001f525",
        ),
        (
            "\u200dig\u200cno\u200dre\u200c \u0645\u200c\u200c\u200d\u06cc \u200c\u0645\u200c",
            "ignore \u0645\u200d\u06cc \u0645",
        ),
    ],
)
def test_titles_are_one_plain_short_line(given: object, shown: str) -> None:
    (claim,) = read(json.dumps({"moments": [{"first": 1, "last": 2, "title": given}]})).claims
    assert claim.title == shown
    assert len(claim.title) <= 120


def test_reasons_are_short_sentences() -> None:
    (claim,) = read(json.dumps({"moments": [{"first": 1, "last": 2, "reason": "so " * 400}]})).claims
    assert len(claim.reason) <= 500
    assert read(_MOMENT.replace("It is good.", "It is good")).claims[0].reason == "It is good."


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        ([7, "8", 0, 10], [7, 8, 0, 10]),
        (["8/10", "4/5", "85%", "7 out of 10"], [8, 8, 9, 7]),
        ([0.8, 0.25, 1.0], [8, 3, 10]),
        ([85, 90, 9], [9, 9, 1]),
        ([1, 1.0, 0], [1, 1, 0]),
        ([7.5, 0.5], [8, 1]),
        ([-1, 101, "high", None, True, float("nan"), 5], [None, None, None, None, None, None, 5]),
    ],
)
def test_scores_are_read_on_the_scale_of_their_answer(given: list[object], read_as: list[int | None]) -> None:
    assert fields.scores(given) == read_as
