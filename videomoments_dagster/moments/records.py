"""Transcripts as others hand them over: one JSON object with `segment_timestamps` and `word_timestamps`."""

import math
from collections.abc import Mapping
from typing import Any

from videomoments_dagster.errors import InvalidTranscript
from videomoments_dagster.moments.transcript import Transcript, in_order

_LONGEST_SECONDS = 1_000_000.0


def transcript_from_record(record: object) -> Transcript:
    """The transcript in `record`. Raises InvalidTranscript naming the field that is missing or wrong.

    `segment_timestamps`: `[{text, start, end}]` and `word_timestamps`: `[{word, start, end}]`, in seconds, sorted;
    one of the two may be left out or empty.
    """
    if not isinstance(record, Mapping):
        raise InvalidTranscript(f"The record is {_kind(record)}, not a JSON object.")
    if "segment_timestamps" not in record and "word_timestamps" not in record:
        raise InvalidTranscript(
            "The record has neither 'segment_timestamps' nor 'word_timestamps'.",
            hint="Give sentences as [{text, start, end}] or words as [{word, start, end}], in seconds.",
        )
    segments = _rows(record, "segment_timestamps", "text")
    words = _rows(record, "word_timestamps", "word")
    language = record.get("language")
    return in_order(Transcript.from_rows(words, segments, language if isinstance(language, str) else "en"))


def _rows(record: Mapping[str, Any], field: str, text_key: str) -> list[dict[str, Any]]:
    rows = record.get(field)
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise InvalidTranscript(f"'{field}' is {_kind(rows)}, not a list.")
    for position, row in enumerate(rows):
        where = f"{field}[{position}]"
        if not isinstance(row, Mapping):
            raise InvalidTranscript(f"{where} is {_kind(row)}, not an object.")
        if not isinstance(row.get(text_key), str):
            raise InvalidTranscript(f"{where} has no text in '{text_key}'.")
        for key in ("start", "end"):
            value = row.get(key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidTranscript(f"{where} has no number in '{key}'.")
            if not math.isfinite(value) or not 0 <= value <= _LONGEST_SECONDS:
                raise InvalidTranscript(f"{where} has '{key}' {value}: not a time in seconds.")
    return rows


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
