"""Moments as JSON and CSV, with their times in seconds as they are stored."""

import csv
import io
import json
import re
from typing import Any

from videomoments_dagster.exports.frames import nominal_rate
from videomoments_dagster.exports.moment_set import ExportedMoment, MomentSet, clock

_COLUMNS: tuple[str, ...] = (
    "id",
    "title",
    "start_time",
    "end_time",
    "start",
    "end",
    "is_refined",
    "parent_id",
    "score",
    "model_name",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_INNER_FORMULA = re.compile(r'([;\t\r\n][ "]*)(?=[=+\-@])')
"""Where a comma is the decimal sign, spreadsheets begin a cell after a semicolon, whatever the quotes say."""


def to_json(exported: MomentSet) -> str:
    """One object: the video, and its moments."""
    video = exported.video
    rate = nominal_rate(video.frame_rate)
    document = {
        "video": {
            "id": video.identifier,
            "title": video.title,
            "file_name": video.file_name,
            "cloud_url": video.cloud_url,
            "duration_seconds": float(video.duration) if video.duration is not None else None,
            "frame_rate": video.frame_rate,
            "nominal_frame_rate": f"{rate.numerator}/{rate.denominator}",
        },
        "moments": [_fields(moment) for moment in exported.moments],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def to_csv(exported: MomentSet) -> str:
    """RFC 4180 with a header. What a spreadsheet would take for a formula begins with an apostrophe, in whichever
    locale it splits the cells."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(_COLUMNS))
    writer.writeheader()
    for moment in exported.moments:
        times = {"start": clock(moment.start), "end": clock(moment.end)}
        writer.writerow({key: _cell(value) for key, value in (_fields(moment) | times).items()})
    return text.getvalue()


def _fields(moment: ExportedMoment) -> dict[str, Any]:
    return {
        "id": moment.identifier,
        "title": moment.title,
        "start_time": float(moment.start),
        "end_time": float(moment.end),
        "is_refined": moment.is_refined,
        "parent_id": moment.parent_identifier,
        "score": moment.score,
        "model_name": moment.model_name,
    }


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        value = _INNER_FORMULA.sub(r"\1'", value.replace("\0", ""))
        return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value
    return value
