"""JSON, CSV and chapters, read back by the readers that people have."""

import csv
import io
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from tests.exports.moment_sets import TEN_HOURS_SECONDS, moment, moment_set, moment_sets
from videomoments_dagster.errors import Conflict
from videomoments_dagster.exports.chapters import to_chapters
from videomoments_dagster.exports.moment_set import MomentSet
from videomoments_dagster.exports.tables import to_csv, to_json


@hypothesis_settings(max_examples=25, deadline=None)
@given(moment_sets())
def test_json_and_csv_hold_the_exact_seconds(exported: MomentSet) -> None:
    expected = [(each.identifier, float(each.start), float(each.end)) for each in exported.moments]
    document = json.loads(to_json(exported))
    assert [(each["id"], each["start_time"], each["end_time"]) for each in document["moments"]] == expected
    assert [each["title"] for each in document["moments"]] == [each.title for each in exported.moments]
    rows = list(csv.DictReader(io.StringIO(to_csv(exported), newline="")))
    assert [(each["id"], float(each["start_time"]), float(each["end_time"])) for each in rows] == expected


def test_json_says_what_the_video_is() -> None:
    document = json.loads(to_json(moment_set(moment(1, 1.5, 2.0, title="Été"))))
    assert document["video"] == {
        "id": "motivation-talk",
        "title": "Motivation & <more>",
        "file_name": "motivation-talk.mp4",
        "cloud_url": "gs://bucket/videos/motivation-talk/motivation-talk.mp4",
        "duration_seconds": 43200.0,
        "frame_rate": 29.97002997002997,
        "nominal_frame_rate": "30000/1001",
    }
    assert document["moments"] == [
        {
            "id": f"{1:016x}",
            "title": "Été",
            "start_time": 1.5,
            "end_time": 2.0,
            "is_refined": False,
            "parent_id": None,
            "score": 7,
            "model_name": "builtin_moments",
        }
    ]


def test_csv_is_safe_to_open_in_a_spreadsheet() -> None:
    titles = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", " =1", 'say "no", twice', "plain", "two\nlines"]
    text = to_csv(moment_set(*(moment(number, number, number + 1, title=title) for number, title in enumerate(titles))))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[1].lstrip("'") for row in rows[1:]] == titles
    assert [row[1].startswith("'") for row in rows[1:]] == [True] * 7 + [False] * 3
    assert text.startswith("id,title,start_time,end_time,start,end,is_refined,parent_id,score,model_name\r\n")
    assert rows[1][2:] == ["0.0", "1.0", "00:00:00.000", "00:00:01.000", "false", "", "7", "builtin_moments"]


@pytest.mark.parametrize(
    ("title", "cell"),
    [
        ("a;=1+1", "a;'=1+1"),
        ("a\t@SUM(A1)", "a\t'@SUM(A1)"),
        ('a; "=1"', 'a; "\'=1"'),
        ("a\n-1", "a\n'-1"),
        ("=1;+2;-3", "'=1;'+2;'-3"),
        ("a; b = c, -1", "a; b = c, -1"),
    ],
)
def test_csv_is_safe_where_cells_are_split_at_semicolons_and_tabs(title: str, cell: str) -> None:
    text = to_csv(moment_set(moment(1, 1, 2, title=title)))
    assert list(csv.reader(io.StringIO(text, newline="")))[1][1] == cell


def chapter_seconds(text: str) -> list[int]:
    """As YouTube reads a description."""
    starts = []
    for line in text.splitlines():
        match = re.fullmatch(r"(?:(\d+):)?(\d{1,2}):(\d\d) (\S.*)", line)
        assert match, line
        starts.append(int(match[1] or 0) * 3600 + int(match[2]) * 60 + int(match[3]))
    return starts


@hypothesis_settings(max_examples=50, deadline=None)
@given(moment_sets())
def test_chapters_keep_to_the_rules_or_are_refused(exported: MomentSet) -> None:
    try:
        starts = chapter_seconds(to_chapters(exported))
    except Conflict as error:
        assert error.hint
        return
    assert starts[0] == 0
    assert len(starts) >= 3
    assert all(after - before >= 10 for before, after in itertools.pairwise(starts))


def test_chapters_in_full() -> None:
    exported = moment_set(
        moment(1, 12.9, 30.0, title="First <one>"),
        moment(2, 20.0, 40.0, title="Too soon after the first"),
        moment(3, 61.0, 90.0, title="Second\nline"),
        moment(4, TEN_HOURS_SECONDS + 62, TEN_HOURS_SECONDS + 90, title="Late"),
        moment(5, 43_195, 43_199, title="Too near to the end"),
    )
    assert to_chapters(exported) == "0:00 Intro\n0:12 First \u2039one\u203a\n1:01 Second line\n10:01:02 Late\n"
    early = moment_set(*(moment(number, 3 + number * 20, 4 + number * 20) for number in range(3)))
    assert to_chapters(early) == "0:00 Moment 0\n0:23 Moment 1\n0:43 Moment 2\n"


def test_too_few_chapters_are_refused_with_a_hint() -> None:
    with pytest.raises(Conflict, match="2 chapters") as refused:
        to_chapters(moment_set(moment(1, 30.0, 40.0)))
    assert "another format" in refused.value.hint
