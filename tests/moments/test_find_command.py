"""`videomoments find` as a user runs it: every form of input, what it prints, and how it fails."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.moments.talks import talk

_SCORED = Path(__file__).resolve().parents[2].parent / "shared" / "eval"


def find(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "videomoments_dagster.cli.main", "find", *arguments],
        input=stdin,
        capture_output=True,
        timeout=120,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )


def record(identifier: str, seed: int = 1) -> dict[str, Any]:
    said = talk(seed, 120)
    return {"id": identifier, "segment_timestamps": said.segment_rows(), "word_timestamps": said.word_rows()}


def lines(*records: dict[str, Any]) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in records).encode()


_RECORDS = [record("a", 1), record("b", 2)]
_FORMS = {
    "lines.jsonl": lines(*_RECORDS),
    "list.json": json.dumps(_RECORDS).encode(),
    "pretty.json": json.dumps(_RECORDS, indent=2).encode(),
    "lines.jsonl.gz": gzip.compress(lines(*_RECORDS)),
    "list.json.gz": gzip.compress(json.dumps(_RECORDS, indent=1).encode()),
}


@pytest.mark.parametrize("name", _FORMS)
def test_every_form_of_input_gives_one_line_a_record_in_order(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(_FORMS[name])
    done = find(str(tmp_path / name))
    assert (done.returncode, done.stderr) == (0, b"")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [f["id"] for f in found] == ["a", "b"]
    for one in found:
        assert set(one) == {"id", "moments"}
        assert len(one["moments"]) >= 2
        assert all(set(m) == {"start_time", "end_time", "title", "score"} for m in one["moments"])


def test_one_object_over_many_lines_and_standard_input() -> None:
    done = find("-", stdin=json.dumps(record("only"), indent=2).encode())
    assert done.returncode == 0
    assert json.loads(done.stdout)["id"] == "only"


def test_lines_are_answered_before_the_input_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "videomoments_dagster.cli.main", "find", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdin
        assert running.stdout
        for identifier in ("first", "second"):
            running.stdin.write(lines(record(identifier)))
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["id"] == identifier
        running.stdin.close()
        assert running.wait(timeout=30) == 0


def test_limits_reach_the_finder() -> None:
    done = find("-", "--min-length", "5", "--max-length", "20", "--max-moments", "2", stdin=lines(record("a")))
    moments = json.loads(done.stdout)["moments"]
    assert len(moments) == 2
    assert all(5 <= m["end_time"] - m["start_time"] <= 20 for m in moments)


def _spoilt(**changes: Any) -> bytes:
    return json.dumps(record("bad") | changes).encode()


_BAD = [
    (b"{not json", "Not JSON"),
    (b'{"id": "bad", "segment_timestamps": [', "Not JSON"),
    (b"\xff\xfe\x00{", "Not JSON"),
    (b"[" * 100_000, "Not JSON"),
    (b"7", "not a JSON object"),
    (b"{}", "no 'id'"),
    (b'{"id": "bad"}', "neither 'segment_timestamps' nor 'word_timestamps'"),
    (_spoilt(segment_timestamps="text"), "'segment_timestamps' is a text, not a list"),
    (_spoilt(segment_timestamps=[{"text": "Hello", "start": 0}]), "segment_timestamps[0] has no number in 'end'"),
    (_spoilt(segment_timestamps=[{"text": "a", "start": float("nan"), "end": 1}]), "not a time"),
    (_spoilt(segment_timestamps=[{"text": "a", "start": -3, "end": 1}]), "not a time"),
    (_spoilt(word_timestamps=[{"word": None, "start": 0, "end": 1}]), "word_timestamps[0] has no text in 'word'"),
    (
        _spoilt(segment_timestamps=[{"text": t, "start": s, "end": s + 2} for t, s in (("a", 9), ("b", 1))]),
        "after one that starts",
    ),
]


def test_each_bad_record_is_named_in_one_line_and_the_rest_goes_on() -> None:
    told = find("-", stdin=b"".join(lines(record(f"good-{n}")) + bad + b"\n" for n, (bad, _) in enumerate(_BAD)))
    assert told.returncode == 1
    assert [json.loads(line)["id"] for line in told.stdout.splitlines()] == [f"good-{n}" for n in range(len(_BAD))]
    complaints = told.stderr.decode().splitlines()
    assert len(complaints) == len(_BAD)
    for number, (complaint, (_, message)) in enumerate(zip(complaints, _BAD, strict=True), start=1):
        assert complaint.startswith(f"line {2 * number}")
        assert message in complaint


def test_a_bad_first_line_does_not_swallow_the_rest() -> None:
    done = find("-", stdin=b'{"id": "cut off", "segment_timestamps": [\n' + lines(*_RECORDS))
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_cut_off_gzip_gives_what_it_holds_and_fails(tmp_path: Path) -> None:
    whole = gzip.compress(lines(record("a")), 0) + gzip.compress(lines(record("b")), 0)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-400])
    done = find(str(tmp_path / "cut.jsonl.gz"))
    assert done.returncode == 1
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["a"]
    assert b"can't be read any further" in done.stderr


def test_a_record_without_speech_has_no_moments_and_the_reason_is_told() -> None:
    done = find("-", stdin=lines({"id": "quiet", "segment_timestamps": []}))
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"id": "quiet", "moments": []}
    assert b"No speech was heard" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jsonl"], "missing.jsonl"),
        (["-", "--model", "nobody"], "'nobody'"),
        (["-", "--min-length", "30", "--max-length", "20"], "below the minimum"),
        (["-", "--min-length", "nan"], "not a length"),
        (["-", "--min-moments", "3", "--max-moments", "2"], "below the minimum"),
        ([], "TRANSCRIPTS"),
    ],
)
def test_what_is_not_understood_exits_with_2(arguments: list[str], message: str) -> None:
    done = find(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert done.stdout == b""


def test_an_empty_input_is_a_failure() -> None:
    done = find("-")
    assert done.returncode == 1
    assert b"holds no transcript" in done.stderr


def test_neither_dagster_nor_a_database_is_loaded() -> None:
    code = (
        "import sys; from videomoments_dagster.cli import find; find._finder('builtin_moments');"
        "print([m for m in ('dagster', 'sqlalchemy', 'redis', 'fastapi', 'paramiko', 'requests') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"


@pytest.mark.slow
@pytest.mark.skipif(not _SCORED.is_dir(), reason="the 22 talks with chapters are not beside this clone")
def test_real_talks_are_divided_better_than_the_bar(tmp_path: Path) -> None:
    """The bar is 25 chapter F1 without knowing how many chapters there are; uniform segments reach 17.5."""
    talks = next(_SCORED.glob("*.jsonl.gz"))
    done = find(str(talks))
    assert done.returncode == 0, done.stderr
    (tmp_path / "moments.jsonl").write_bytes(done.stdout)
    scorer = [sys.executable, str(_SCORED / "score_talks.py"), str(talks), str(tmp_path / "moments.jsonl")]
    printed = subprocess.run(scorer, capture_output=True, text=True, check=True).stdout
    assert float(printed.split(" F1 ")[1].split()[0]) >= 25, printed
    for line in done.stdout.splitlines():
        names = [m["title"] for m in json.loads(line)["moments"]]
        assert len({n.casefold() for n in names}) == len(names)
        assert all(names)
