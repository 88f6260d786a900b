"""Chapters for the description of a YouTube video: one `M:SS title` a line.

YouTube's rules: the first at 0:00, at least three, in ascending order, each at least ten seconds long.
"""

from videomoments_dagster.errors import Conflict
from videomoments_dagster.exports.moment_set import MomentSet, one_line

SHORTEST_SECONDS = 10
FEWEST = 3
OPENING = "Intro"
_UNTITLED = "Untitled"  # a time alone makes no chapter
_LONGEST_TITLE = 100  # characters: what YouTube allows a video's title; it cuts chapters' much earlier
_ANGLES = str.maketrans("<>", "\u2039\u203a")  # YouTube refuses descriptions with angle brackets


def to_chapters(exported: MomentSet) -> str:
    """A chapter starts where a moment does and lasts until the next. What comes before the first is called Intro, or
    belongs to the first when it is shorter than a chapter may be; a moment that starts within ten seconds of the
    chapter before, or of the end, belongs to that one. Raises Conflict when fewer than three are left."""
    chapters: list[tuple[int, str]] = []
    duration = exported.video.duration
    for moment in exported.moments:
        start = int(moment.start)
        title = one_line(moment.title).translate(_ANGLES)[:_LONGEST_TITLE] or _UNTITLED
        if not chapters:
            chapters = [(0, OPENING), (start, title)] if start >= SHORTEST_SECONDS else [(0, title)]
        elif start - chapters[-1][0] >= SHORTEST_SECONDS:
            chapters.append((start, title))
    while duration is not None and len(chapters) > 1 and duration - chapters[-1][0] < SHORTEST_SECONDS:
        chapters.pop()
    if len(chapters) < FEWEST:
        raise Conflict(
            f"The moments of {exported.video.identifier!r} make {len(chapters)} chapters of {SHORTEST_SECONDS} seconds"
            f" and more; YouTube shows none when there are fewer than {FEWEST}.",
            hint="Add moments, or export them in another format.",
        )
    return "".join(f"{_clock(start)} {title}\n" for start, title in chapters)


def _clock(seconds: int) -> str:
    """M:SS, and H:MM:SS from an hour on."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
