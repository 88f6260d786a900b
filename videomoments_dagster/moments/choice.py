"""The closed choice of refinement: a model picks a start and an end from candidates by id, or keeps what there is.

Whatever it answers, each boundary stays when the place chosen would sound worse, and the result is still the moment.
"""

import re
from collections.abc import Sequence
from typing import Any

from videomoments_dagster.moments import fields, replies
from videomoments_dagster.moments.candidates import Candidate, Edge, end_candidates, start_candidates
from videomoments_dagster.moments.moment import FindOptions, FoundMoment, Prompt, Refinement, Span
from videomoments_dagster.moments.plain import as_sentence, as_speech
from videomoments_dagster.moments.prompts import DATA_NOT_INSTRUCTIONS, closed_object, fenced
from videomoments_dagster.moments.refinement import price, said_of_moves, staying_cost, unchanged, what_it_is
from videomoments_dagster.moments.transcript import Transcript

_SYSTEM = (
    "You choose where a clip of a recording should begin and end. You are given a closed list of places, each with an "
    "id, and you answer with two of these ids, never with a time, as JSON and nothing else. " + DATA_NOT_INSTRUCTIONS
)

REFINEMENT_PROMPT = Prompt(
    _SYSTEM,
    """The clip shows one moment of a recording with some seconds around it.

Choose the place where the moment should begin and the place where it should end, so that somebody who sees nothing else
comes in when the subject is opened and leaves when its point has been made: not in the middle of a sentence, a thought,
or, when you see the pictures, of a movement or a slide that nobody has had time to read.

Below stand the title of the moment, if it has one, and the places, one a line: its id, the seconds from the beginning
of the clip, and what is said from there on (starts) or up to there (ends). "sentence" and "silence" mark places where a
sentence begins or ends and where nobody speaks.

{places}

It now begins {start} and ends {end}.

Answer with one JSON object of this form:
{"start": "s3", "end": "e2", "reason": "..."}
Take "keep" instead of an id where it should stay as it is or where you are not sure. reason: one sentence.""",
)
"""For the prompts table: with {places}, {start} and {end} where a moment's own are put."""

CHOICE_SCHEMA = closed_object({name: {"type": "string"} for name in ("start", "end", "reason")})
"""For `response_format`: the answer to a refinement prompt."""

_PLACEHOLDER = re.compile(r"\{(?:places|start|end)\}")
_ID = re.compile(r"\W*([se]\d{1,3})\b", re.IGNORECASE)
_KEEP = frozenset({"", "keep", "unsure", "unchanged", "same", "none", "null", "stay", "current", "present"})
_START = ("start", "start_id", "begin", "from", "first")
_END = ("end", "end_id", "stop", "to", "last")
_START_TIME = ("start_time", "start_seconds", "start", "begin", "from")
_END_TIME = ("end_time", "end_seconds", "end", "stop", "to")
_SNAP_MS = 3_000  # models see one or two pictures a second: what they mean is not further off
_REASON_CHARACTERS = 300


def question(moment: FoundMoment, clip: Span, starts: Sequence[Candidate], ends: Sequence[Candidate]) -> str:
    """The user's part of the prompt for one moment; times are those of the clip, which is what the model sees."""
    lines = [
        *([f"Title: {as_speech(moment.title)}"] if moment.title else ()),
        "Places to start:",
        *(_line(c, clip) for c in starts),
        "Places to end:",
        *(_line(c, clip) for c in ends),
    ]
    filled = {
        "{places}": fenced(lines),
        "{start}": _within(max(moment.start_ms, clip.start_ms), clip),
        "{end}": _within(min(moment.end_ms, clip.end_ms), clip),
    }
    return _PLACEHOLDER.sub(lambda found: filled[found.group()], REFINEMENT_PROMPT.user)


def usable(answer: str) -> bool:
    """Whether the answer names places at all, or keeps what there is; when it doesn't, it is worth asking again."""
    return replies.read(answer, _is_choice) is not None


def choose(
    answer: str | None,
    moment: Span,
    clip: Span,
    transcript: Transcript,
    silences: Sequence[Span],
    options: FindOptions,
    *,
    times_trusted: bool,
) -> Refinement:
    """What follows from the answer to `question`, whose candidates are worked out again from the same input.

    Unchanged, with the reason, when the answer is missing, unsure or names no candidate; when the result would be out
    of the limits or would hardly be the moment any more. A boundary never moves to where a cut sounds worse; one that
    is kept outside `clip` moves to its edge when the other changes. Answers with times instead of ids mean the
    candidates nearest to them; they count only when `times_trusted`.
    """
    if moment.end_ms <= clip.start_ms or moment.start_ms >= clip.end_ms:
        return unchanged(moment, "The clip does not show this moment.")
    if answer is None or not answer.strip():
        return unchanged(moment, "The model gave no answer.")
    said = replies.read(answer, _is_choice)
    if said is None:
        return unchanged(moment, "The model's answer names no candidates.")
    said = fields.keyed(said)
    starts = start_candidates(moment.start_ms, clip, transcript, silences)
    ends = end_candidates(moment.end_ms, clip, transcript, silences)
    chosen = _by_id(said, starts, ends)
    if isinstance(chosen, str):
        if not _tells_times(said):
            return unchanged(moment, chosen)
        if not times_trusted:
            return unchanged(moment, "The model answered with times, and its clock is not trusted.")
        chosen = _by_time(said, clip, starts, ends)
        if isinstance(chosen, str):
            return unchanged(moment, chosen)
    start, end = chosen
    kept = max(moment.start_ms, clip.start_ms), min(moment.end_ms, clip.end_ms)
    start_ms, start_is, start_worse = _better("start", kept[0], start, starts, transcript)
    end_ms, end_is, end_worse = _better("end", kept[1], end, ends, transcript)
    worse = " and ".join(name for name, is_worse in (("start", start_worse), ("end", end_worse)) if is_worse)
    stayed = f"The {worse} stayed: a cut would sound worse where the model chose it." if worse else ""
    if (start_ms, end_ms) == kept:
        return unchanged(moment, stayed or "The model keeps it as it is.")
    if fault := _fault(Span(start_ms, end_ms), moment, options):
        return unchanged(moment, fault)
    moved = said_of_moves((start_ms, moment.start_ms, start_is), (end_ms, moment.end_ms, end_is))
    why = said.get("reason")
    reasons = (moved, stayed, as_sentence(why, _REASON_CHARACTERS) if isinstance(why, str) else "")
    return Refinement(start_ms, end_ms, True, " ".join(part for part in reasons if part))


def _line(candidate: Candidate, clip: Span) -> str:
    marks = [name for name, is_so in (("sentence", candidate.sentence), ("silence", candidate.silent)) if is_so]
    about = ", ".join((_within(candidate.at_ms, clip), *marks))
    words = as_speech(candidate.text)
    return f"{candidate.id} ({about}): " + (f"{words} ..." if candidate.id.startswith("s") else f"... {words}")


def _within(at_ms: int, clip: Span) -> str:
    return f"at {(at_ms - clip.start_ms) / 1000:.1f} s"


def _is_choice(value: Any) -> bool:
    return isinstance(value, dict) and not {*_START, *_END, *_START_TIME, *_END_TIME}.isdisjoint(fields.keyed(value))


def _by_id(
    said: dict[str, Any], starts: Sequence[Candidate], ends: Sequence[Candidate]
) -> tuple[Candidate | None, Candidate | None] | str:
    """The candidates that are named, None for a boundary to keep; or why there are none."""
    chosen: list[Candidate | None] = []
    for keys, candidates in ((_START, starts), (_END, ends)):
        value = fields.first_present(said, keys)
        if isinstance(value, dict):
            value = fields.first_present(fields.keyed(value), ("id", "candidate"))
        if value is None and any(key in said for key in keys):
            value = "keep"
        named = _ID.match(value) if isinstance(value, str) else None
        if isinstance(value, str) and value.strip().lower() in _KEEP:
            chosen.append(None)
        elif named is None:
            return "The model's answer names no candidates."
        else:
            found = next((c for c in candidates if c.id == named.group(1).lower()), None)
            if found is None:
                return f"The model named {named.group(1)}, which is not one of the candidates."
            chosen.append(found)
    return chosen[0], chosen[1]


def _tells_times(said: dict[str, Any]) -> bool:
    start, end = fields.first_present(said, _START_TIME), fields.first_present(said, _END_TIME)
    named = "start_time" in said or "start_seconds" in said
    return (named or fields.is_time(start) or fields.is_time(end)) and None not in (
        fields.time_ms(start),
        fields.time_ms(end),
    )


def _by_time(
    said: dict[str, Any], clip: Span, starts: Sequence[Candidate], ends: Sequence[Candidate]
) -> tuple[Candidate | None, Candidate | None] | str:
    """The candidates nearest to times of the clip, or of the whole video when they can only be those."""
    start_ms = fields.time_ms(fields.first_present(said, _START_TIME)) or 0
    end_ms = fields.time_ms(fields.first_present(said, _END_TIME)) or 0
    if end_ms > clip.end_ms - clip.start_ms + 1000:
        start_ms, end_ms = start_ms - clip.start_ms, end_ms - clip.start_ms
    if start_ms < -1000 or end_ms > clip.end_ms - clip.start_ms + 1000:
        return "The model's times lie outside the clip."
    if end_ms <= start_ms:
        return "The model's end lies before its start."
    start, end = (_nearest(c, clip.start_ms + at_ms) for c, at_ms in ((starts, start_ms), (ends, end_ms)))
    return (start, end) if start or end else "No candidate is near the model's times."


def _nearest(candidates: Sequence[Candidate], at_ms: int) -> Candidate | None:
    near = min(candidates, key=lambda c: (abs(c.at_ms - at_ms), c.at_ms), default=None)
    return near if near is not None and abs(near.at_ms - at_ms) <= _SNAP_MS else None


def _better(
    edge: Edge, present_ms: int, chosen: Candidate | None, candidates: Sequence[Candidate], transcript: Transcript
) -> tuple[int, str, bool]:
    """Where the boundary goes, what is there when that is elsewhere, and whether it stayed as the choice is worse."""
    if chosen is None or chosen.at_ms == present_ms:
        return present_ms, f"the {edge} of the clip", False
    if price(chosen) > staying_cost(present_ms, candidates, transcript):
        return present_ms, f"the {edge} of the clip", True
    return chosen.at_ms, what_it_is(edge, chosen), False


def _fault(result: Span, moment: Span, options: FindOptions) -> str:
    """Why the result can't replace the moment; empty when it can."""
    length_ms = result.end_ms - result.start_ms
    if length_ms <= 0:
        return "The chosen end lies before the chosen start."
    if not options.min_length_ms <= length_ms <= options.max_length_ms:
        return f"With the chosen boundaries it would be {length_ms / 1000:.1f} s long, which is not allowed."
    both_ms = min(result.end_ms, moment.end_ms) - max(result.start_ms, moment.start_ms)
    if 2 * both_ms < min(length_ms, moment.end_ms - moment.start_ms):
        return "The chosen boundaries are those of another moment."
    return ""
