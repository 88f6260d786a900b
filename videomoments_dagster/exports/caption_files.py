"""Cues as WebVTT (W3C) and SubRip files."""

import html
from collections.abc import Iterable
from fractions import Fraction

from videomoments_dagster.exports.captions import Cue
from videomoments_dagster.exports.moment_set import clock, one_line

VTT, SRT = "text/vtt; charset=utf-8", "application/x-subrip; charset=utf-8"

_PLAIN = str.maketrans("<>{}", "\u2039\u203a()")


def to_vtt(cues: Iterable[Cue]) -> str:
    """`&`, `<` and `>` as references: nothing said is taken for markup, or for the arrow between times."""
    blocks = ["WEBVTT\n"]
    for cue in cues:
        lines = "\n".join(html.escape(one_line(line), quote=False) for line in cue.lines)
        blocks.append(f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{lines}\n")
    return "\n".join(blocks)


def to_srt(cues: Iterable[Cue]) -> str:
    """The format has no escapes, and players take `<b>` and `{b}` for markup: other brackets stand for those."""
    blocks = []
    for number, cue in enumerate(cues, 1):
        lines = "\n".join(one_line(line).translate(_PLAIN) for line in cue.lines)
        blocks.append(f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{lines}\n")
    return "\n".join(blocks)


def _clock(milliseconds: int, separator: str) -> str:
    return clock(Fraction(milliseconds, 1000), separator=separator)
