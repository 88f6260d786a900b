"""Reads JSON records from a file or a pipe: JSON lines, one JSON value, or gzip of either. Not what they mean."""

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from videomoments_dagster.errors import InvalidTranscript

_GZIP = b"\x1f\x8b"


def records(stream: io.BufferedReader) -> Iterator[tuple[str, Any]]:
    """Where each record stands ('line 3'), and its JSON value, or an InvalidTranscript saying why it has none.

    Lines are handed on as they come. Only when the first one is the beginning of a value is the rest read at once.
    """
    packed = stream.peek(2)[:2] == _GZIP
    lines: Iterable[bytes] = gzip.GzipFile(fileobj=stream) if packed else stream
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            value = _parsed(line)
            if isinstance(value, _Unfinished):
                rest = list(lines)
                whole = _parsed(line + b"".join(rest))
                if isinstance(whole, InvalidTranscript) and any(isinstance(_parsed(r), dict) for r in rest):
                    yield f"line {number}", value
                    yield from ((f"line {n}", _parsed(r)) for n, r in enumerate(rest, number + 1) if r.strip())
                    return
                value = whole
            if isinstance(value, list):
                yield from ((f"record {position}", item) for position, item in enumerate(value, 1))
            else:
                yield f"line {number}", value
            break
        for line in lines:
            number += 1
            if line.strip():
                yield f"line {number}", _parsed(line)
    except (EOFError, OSError, zlib.error) as error:
        yield f"after line {number}", InvalidTranscript(f"The file can't be read any further: {error}.")


class _Unfinished(InvalidTranscript):
    """Not JSON yet: more text could complete it."""


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        kind = _Unfinished if error.pos >= len(error.doc.rstrip()) else InvalidTranscript
        return kind(f"Not JSON: {error.msg} at line {error.lineno}, column {error.colno}.")
    except UnicodeDecodeError:
        return InvalidTranscript("Not JSON: not UTF-8 text.")
    except (RecursionError, ValueError) as error:
        return InvalidTranscript(f"Not JSON: {error}.")
