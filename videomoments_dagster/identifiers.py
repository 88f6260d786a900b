"""Identifiers: what a video, a moment and a URL are called. The only place that checks a partition key."""

import hashlib
import re
from urllib.parse import unquote, urlsplit, urlunsplit

from videomoments_dagster.errors import InvalidIdentifier

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_TRACKING = re.compile(r"(utm_.+|fbclid|gclid|dclid|msclkid|mc_cid|mc_eid|igshid|yclid|_hsenc|_hsmi)", re.IGNORECASE)


def validate_identifier(identifier: str) -> str:
    """Return `identifier` unchanged, or raise InvalidIdentifier. It doubles as the Dagster partition key."""
    if not _IDENTIFIER.fullmatch(identifier):
        raise InvalidIdentifier(f"{identifier[:120]!r} can't name a video.")
    return identifier


def canonical_url(url: str) -> str:
    """The form in which URLs are compared: scheme and host lower case, no default port, fragment or tracking keys."""
    parts = urlsplit(url.strip())
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _DEFAULT_PORTS.get(scheme):
        host = f"{host}:{parts.port}"
    # piece by piece, as written: encoding it anew breaks the signatures of presigned URLs
    query = "&".join(p for p in parts.query.split("&") if not _TRACKING.fullmatch(unquote(p.partition("=")[0])))
    return urlunsplit((scheme, host, parts.path or "/", query, ""))


def slug(text: str) -> str:
    """`text` as an identifier: runs of other characters become '-'. 'video' when nothing is left; at most 80 long."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-_")[:80].strip("-_") or "video"


def identifier_from_url(url: str) -> str:
    """The identifier a URL asks for: the slug of its file's stem."""
    name = unquote(urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1]
    return slug(name.rsplit(".", 1)[0] if "." in name[1:] else name)


def distinct_identifier(identifier: str, source: str) -> str:
    """`identifier` plus '-' and 6 hex of the SHA-256 of `source` (a canonical URL, or an upload's key)."""
    return f"{identifier[:93]}-{hashlib.sha256(source.encode()).hexdigest()[:6]}"


def moment_identifier(video: str, kind: str, start_ms: int, end_ms: int) -> str:
    """16 hex digits, the same for the same moment, so that a retried stage gives the same rows.

    `kind` keeps apart what may share times: 'generated', 'manual', or 'refined:<parent identifier>'.
    """
    return hashlib.sha256(f"{video}\n{kind}\n{start_ms}\n{end_ms}".encode()).hexdigest()[:16]
