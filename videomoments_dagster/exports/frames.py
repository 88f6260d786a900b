"""Seconds as frames and timecode: exact rates as fractions, drop-frame as SMPTE ST 12-1 counts it.

A probed rate is a float, often an average. It is taken for the standard rate next to it, which is also the nominal rate
of a video whose frames come at varying intervals.
"""

from fractions import Fraction

from videomoments_dagster.exports.moment_set import ExportedMoment

STANDARD_RATES = (
    Fraction(24000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(30),
    Fraction(50),
    Fraction(60000, 1001),
    Fraction(60),
)
"""The rates of sequences in editing programs (Final Cut Pro's list), and of SMPTE timecode."""
_WHEN_UNKNOWN = Fraction(30)

DAY_HOURS = 24


def nominal_rate(frame_rate: float | None) -> Fraction:
    """The standard rate next to `frame_rate`, by ratio; twice or four times one is halved first (120 is 60). 30 for a
    video without one."""
    if not frame_rate or frame_rate <= 0:
        return _WHEN_UNKNOWN
    while frame_rate > 60.5:
        frame_rate /= 2
    return min(STANDARD_RATES, key=lambda rate: max(rate, frame_rate) / min(rate, frame_rate))


def to_frames(seconds: Fraction, rate: Fraction) -> int:
    """The frame boundary next to `seconds`: at most half a frame away."""
    return round(seconds * rate)


def frame_range(moment: ExportedMoment, rate: Fraction) -> tuple[int, int]:
    """First frame, and the one after the last; at least one frame."""
    first = to_frames(moment.start, rate)
    return first, max(first + 1, to_frames(moment.end, rate))


def is_drop_frame(rate: Fraction) -> bool:
    """Whether timecode leaves numbers out to keep up with the clock: at 29.97 and 59.94, not at 23.976."""
    return rate.denominator == 1001 and rate.numerator % 30000 == 0


def timecode(frame: int, rate: Fraction) -> str:
    """HH:MM:SS:FF, or HH:MM:SS;FF in drop-frame. It starts at zero again after 24 hours, as timecode does."""
    per_second = round(rate)
    drop = is_drop_frame(rate)
    if drop:
        frame = _numbered(frame, per_second)
    seconds, frames = divmod(frame, per_second)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours % DAY_HOURS:02}:{minutes:02}:{seconds:02}{';' if drop else ':'}{frames:02}"


def frames_of_a_day(rate: Fraction) -> int:
    """How many frames timecode tells apart."""
    per_second = round(rate)
    dropped = DAY_HOURS * 54 * (per_second // 15) if is_drop_frame(rate) else 0
    return DAY_HOURS * 3600 * per_second - dropped


def _numbered(frame: int, per_second: int) -> int:
    """The number of a frame in drop-frame: 2 numbers (4 at 59.94) are left out each minute but every tenth."""
    dropped = per_second // 15
    minute = per_second * 60 - dropped
    ten_minutes = minute * 10 + dropped
    tens, rest = divmod(frame, ten_minutes)
    left_out = tens * 9 * dropped
    if rest >= per_second * 60:
        left_out += dropped * ((rest - dropped) // minute)
    return frame + left_out
