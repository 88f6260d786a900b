"""What must not be seen in messages, logs and stored errors: signed URLs, passwords and keys, and media in URLs.

By their shape, and the values of this process's own secrets wherever they appear.
"""

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

_DATA_URL = re.compile(r"(data:[\w/+.-]*)[;,][^\s\"'<>]*", re.IGNORECASE)
_URL_QUERY = re.compile(r"(https?:[^\s\"'?<>]+)\?[^\s\"'<>]*", re.IGNORECASE)
_QUERY = re.compile(r"(\?|%3F)[\w.~%+-]+?(=|%3D)[^\s\"'<>]*", re.IGNORECASE)  # of a path, a host, an escaped URL
_SIGNED = re.compile(r"((?:signature|credential)(?:=|%3D))[^\s\"'<>&]*", re.IGNORECASE)
_USER = re.compile(r"\b([a-z][a-z0-9+.-]*:(?:\\?/){2})[^\s/\"']+@", re.IGNORECASE)
_AUTHORIZATION = re.compile(r"(authorization\W{1,5})(?:(bearer|basic)\s+)?[^\s\"',;}\]]+", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer\s+)[\w.~+/-]{8,}=*", re.IGNORECASE)
_NAMED = re.compile(
    r"\b((?:password|passwd|pgpassword|secret|api[_-]?key|access[_-]?token)[\"']?\s?[=:]\s?[\"']?)[^\s\"',;&}]+",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$")
_SHORTEST_SECRET = 8
_own: set[str] = set()


def keep_secret(*values: str) -> None:
    """From now on `redacted` hides these values too; not those under 8 characters, which would be found in words."""
    _own.update(value for value in values if len(value) >= _SHORTEST_SECRET)


def secrets_in(environment: Mapping[str, str]) -> set[str]:
    """The passwords in its URLs, as they are written and as they are meant, and values of variables named KEY, TOKEN,
    SECRET or PASSWORD."""
    found: set[str] = set()
    for name, value in environment.items():
        if "://" in value and "@" in value:
            found |= _passwords(value)
        elif _SECRET_NAME.search(name.upper()) and not value.startswith("/"):  # a path to a key is none
            found.add(value.strip())
    return found


def keep_environment_secret() -> None:
    """`keep_secret` for all that `secrets_in` finds in this process's environment."""
    keep_secret(*secrets_in(os.environ))


def redacted(text: str, secret: str = "") -> str:
    """Servers, libraries and models quote what they were sent: signed URLs whole or in part, media, even keys."""
    text = _without(text, (secret, *_own))
    text = _QUERY.sub("?***", _URL_QUERY.sub(r"\1?***", _DATA_URL.sub(r"\1,***", text)))
    text = _USER.sub(r"\1", _SIGNED.sub(r"\1***", text))
    text = _BEARER.sub(r"\1***", _AUTHORIZATION.sub(r"\1***", text))
    return _NAMED.sub(r"\1***", text)


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):  # one may begin with another
        text = text.replace(secret, "***")
    return text


def _passwords(url: str) -> set[str]:
    try:
        password = urlsplit(url).password or ""
    except ValueError:  # no URL after all
        return set()
    return {password, unquote(password)}
