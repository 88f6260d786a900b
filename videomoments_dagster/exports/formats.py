"""The formats that moments are exported in: media type, ending and writer of each."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from videomoments_dagster.exports.chapters import to_chapters
from videomoments_dagster.exports.edl import to_edl
from videomoments_dagster.exports.fcpxml import to_fcpxml
from videomoments_dagster.exports.moment_set import MomentSet
from videomoments_dagster.exports.tables import to_csv, to_json


class ExportFormat(StrEnum):
    """`chapters` is for YouTube, `edl` CMX 3600, `fcpxml` for Final Cut Pro and DaVinci Resolve."""

    JSON = "json"
    CSV = "csv"
    CHAPTERS = "chapters"
    EDL = "edl"
    OTIO = "otio"
    FCPXML = "fcpxml"


@dataclass(frozen=True, slots=True)
class Format:
    """`ending`: what the file's name ends with after the video's identifier."""

    media_type: str
    ending: str
    write: Callable[[MomentSet], str]


def _to_otio(exported: MomentSet) -> str:
    from videomoments_dagster.exports.timeline import to_otio  # a C++ library: only for those who ask for it

    return to_otio(exported)


FORMATS = {
    ExportFormat.JSON: Format("application/json", ".moments.json", to_json),
    ExportFormat.CSV: Format("text/csv; charset=utf-8", ".moments.csv", to_csv),
    ExportFormat.CHAPTERS: Format("text/plain; charset=utf-8", ".chapters.txt", to_chapters),
    ExportFormat.EDL: Format("text/plain; charset=utf-8", ".edl", to_edl),
    ExportFormat.OTIO: Format("application/json", ".otio", _to_otio),
    ExportFormat.FCPXML: Format("application/xml", ".fcpxml", to_fcpxml),
}
