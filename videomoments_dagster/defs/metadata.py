"""What a person sees of a materialization in the Dagster UI: thumbnails, tables of moments, plain numbers."""

import re
from collections.abc import Iterable, Sequence

import dagster as dg

from videomoments_dagster.defs.resources import PlatformResource

_MARKUP = re.compile(r"[\\`*_\[\]!<>|~&#]|^[-+=]")
_LIST_MARK = re.compile(r"^(\d{1,9})([.)])")


def thumbnail(platform: PlatformResource, path: str) -> dg.MarkdownMetadataValue:
    """A picture the UI shows, by the API path that answers with a fresh signed URL. Bytes stay out of the event log."""
    address = f"{platform.settings.public_url}{path}"
    return dg.MetadataValue.md(f"[![thumbnail]({address})]({address})")


def link(platform: PlatformResource, path: str) -> dg.UrlMetadataValue:
    """A link to the API, which answers with a fresh signed URL."""
    return dg.MetadataValue.url(f"{platform.settings.public_url}{path}")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A markdown table. Cells are escaped, so that a title can't break it; a `link` value becomes a link."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(value) for value in row) for row in rows]
    return dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))


def plain(text: str) -> str:
    """Text from models, transcripts and files as one line of markdown that shows it as it is.

    A picture in a title would be fetched by the operator's browser. Pages may still make a bare address clickable.
    """
    line = _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))
    return _LIST_MARK.sub(r"\1\\\2", line)


def points(lines: Iterable[str]) -> dg.MarkdownMetadataValue:
    """A list, a line each, as plain text."""
    return dg.MetadataValue.md("\n".join(f"- {plain(line)}" for line in lines))


def clock(seconds: float) -> str:
    """1:02:03.4, or 2:03.4 below an hour."""
    tenths = round(seconds * 10)
    hours, rest = divmod(tenths, 36_000)
    minutes, rest = divmod(rest, 600)
    text = f"{minutes:02d}:{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{text}" if hours else text.removeprefix("0")


def _cell(value: object) -> str:
    if isinstance(value, dg.UrlMetadataValue):
        return f"[open]({value.value})"
    text = clock(value) if isinstance(value, float) else str(value)
    return plain(text)
