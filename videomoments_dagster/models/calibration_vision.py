"""Asks a model that watches video when in the calibration clip it sees which clock."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from videomoments_dagster.errors import ModelAnswerInvalid
from videomoments_dagster.models.calibration_fit import Pair, Tolerance, judged, verdict
from videomoments_dagster.models.calibration_media import CalibrationClip, Shown, clock_clip, stills
from videomoments_dagster.models.chat import ChatClient, Media
from videomoments_dagster.models.clip_media import media_of
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.explanations import beginning
from videomoments_dagster.models.protocols import ClipSource, Sampling
from videomoments_dagster.models.registry import Verdict
from videomoments_dagster.moments import fields, replies
from videomoments_dagster.moments.moment import Span

_TOLERANCE = Tolerance(offset_seconds=3.0, drift_seconds_an_hour=120.0, residual_seconds=6.0, outliers=1)
"""A server that samples 32 frames of three minutes sees one each 5.6 s: a gap for a single clock, half a gap for all
of them, and a gap over the whole clip can't be told from a right clock. Frame rates that are mistaken by a server put
times off by far more."""
_LEAST_SHARE = 0.75
_STILLS = 24
_SYSTEM = "You watch a video and say when things are shown in it. You answer with JSON only."
_QUESTION = """\
The video shows clocks, one after the other, each for a while. What a clock shows has nothing to do with the time in \
the video, and they come in no order.
When in the video is each of these clocks shown: {clocks}?
Answer with {{"clocks": [{{"clock": "12:34", "start_time": 0.0, "end_time": 0.0}}]}}: from when to when it is shown, \
in seconds since the video began. Leave out clocks that you do not see.
"""
_TIME = {"type": "number"}
_CLOCK = {
    "type": "object",
    "properties": {"clock": {"type": "string"}, "start_time": _TIME, "end_time": _TIME},
    "required": ["clock", "start_time", "end_time"],
    "additionalProperties": False,
}
_SCHEMA = {
    "type": "object",
    "properties": {"clocks": {"type": "array", "items": _CLOCK}},
    "required": ["clocks"],
    "additionalProperties": False,
}


def check_vision(
    entry: ModelEntry, chat: ChatClient, directory: Path, publish: Callable[[Path], str] | None = None
) -> Verdict:
    """By twelve clocks in three minutes: the middle of the stretch in which the model says that it sees each.

    `publish` gives the clip an address that the model's server can fetch; without it the clip goes as data where an
    address is wanted. Raises what the chat client raises, and ModelAnswerInvalid for an answer without any times.
    """
    clip = clock_clip(directory)
    question = _QUESTION.format(clocks=", ".join(sorted(shown.text for shown in clip.shown)))
    answer = chat.complete(
        _SYSTEM, question, media=_media(entry, clip, publish), schema=_SCHEMA, sampling=Sampling(temperature=0.0)
    )
    rows = _rows(answer.text)
    if rows is None:
        raise ModelAnswerInvalid(f"{entry.key} does not say when it sees which clock: {beginning(answer.text)!r}.")
    pairs = _pairs(rows, clip.shown)
    much = f"{len(pairs)} of {len(clip.shown)} clocks seen"
    if len(pairs) < _LEAST_SHARE * len(clip.shown):
        return verdict(entry, False, f"saw too little; {much}", answer.seconds)
    return judged(entry, pairs, _TOLERANCE, much, answer.seconds)


def _media(entry: ModelEntry, clip: CalibrationClip, publish: Callable[[Path], str] | None) -> Sequence[Media]:
    length_ms = round(1000 * clip.duration_seconds)

    @contextmanager
    def file() -> Iterator[Path]:
        yield clip.path

    if publish is None and entry.video_transport == "url":
        entry = entry.model_copy(update={"video_transport": "data"})
    source = ClipSource(
        Span(0, length_ms),
        url=lambda: publish(clip.path) if publish else "",
        file=file,
        frames=lambda times_ms: stills(clip, times_ms),
    )
    return media_of(source, entry, [round(length_ms * (number + 0.5) / _STILLS) for number in range(_STILLS)])


def _rows(answer: str) -> list[object] | None:
    """The list of clocks in the answer, with or without the object around it."""

    def holds_clocks(value: object) -> bool:
        return isinstance(value, dict) and isinstance(value.get("clocks"), list)

    value = replies.read(answer, holds_clocks, lambda value: isinstance(value, list))
    return value["clocks"] if isinstance(value, dict) else value


def _pairs(rows: Sequence[object], shown: Sequence[Shown]) -> list[Pair]:
    """One for each clock that the answer gives times for, the first where it gives several."""
    places = {clock.text: clock for clock in shown}
    found: dict[int, Pair] = {}
    for row in rows:
        said = fields.keyed(row) if isinstance(row, dict) else {}
        clock = places.get(str(said.get("clock")).strip())
        start_ms, end_ms = fields.time_ms(said.get("start_time")), fields.time_ms(said.get("end_time"))
        if clock is not None and start_ms is not None and end_ms is not None:
            middle = (clock.start_seconds + clock.end_seconds) / 2
            found.setdefault(clock.place, Pair(clock.place, middle, (start_ms + end_ms) / 2000))
    return list(found.values())
