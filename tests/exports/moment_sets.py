"""Sets of moments to export, made by hand and by Hypothesis."""

from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from videomoments_dagster.exports.moment_set import ExportedMoment, ExportedVideo, MomentSet

RATES = (23.976023976023978, 24.0, 25.0, 29.97002997002997, 30.0, 50.0, 59.94005994005994, 60.0)
VARIABLE_RATE = 29.41
TEN_HOURS_SECONDS = 36_000


def moment(number: int, start: float | Fraction, end: float | Fraction, **values: Any) -> ExportedMoment:
    defaults: dict[str, Any] = {
        "identifier": f"{number:016x}",
        "title": f"Moment {number}",
        "start": Fraction(repr(start)) if isinstance(start, float) else Fraction(start),
        "end": Fraction(repr(end)) if isinstance(end, float) else Fraction(end),
        "is_refined": False,
        "parent_identifier": None,
        "score": 7,
        "model_name": "builtin_moments",
    }
    return ExportedMoment(**{**defaults, **values})


def moment_set(*moments: ExportedMoment, **values: Any) -> MomentSet:
    defaults: dict[str, Any] = {
        "identifier": "motivation-talk",
        "title": "Motivation & <more>",
        "file_name": "motivation-talk.mp4",
        "cloud_url": "gs://bucket/videos/motivation-talk/motivation-talk.mp4",
        "duration": Fraction(12 * 3600),
        "frame_rate": 29.97002997002997,
        "width": 1920,
        "height": 1080,
        "has_video": True,
        "has_audio": True,
    }
    return MomentSet(ExportedVideo(**{**defaults, **values}), moments)


@st.composite
def moment_sets(draw: st.DrawFn) -> MomentSet:
    """Moments that do not overlap, from a quarter of a second long, anywhere in twelve hours; titles are anything."""
    start = draw(st.sampled_from([0, TEN_HOURS_SECONDS * 1000]))
    moments = []
    for number in range(draw(st.integers(1, 8))):
        start += draw(st.integers(0, 600_000))
        end = start + draw(st.integers(250, 600_000))
        title = draw(st.text(min_size=1, max_size=30))
        moments.append(moment(number, Fraction(start, 1000), Fraction(end, 1000), title=title))
        start = end
    return moment_set(*moments, frame_rate=draw(st.sampled_from([*RATES, VARIABLE_RATE])))
