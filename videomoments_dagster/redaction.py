"""What must not be seen in messages, logs and stored errors: signed URLs, passwords and keys, and media in URLs.

By their shape, and the values of this process's own secrets wherever they appear. What is quoted may be an attacker's:
the text is cut first, and every expression takes time in proportion to it.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from urllib.parse import unquote, urlsplit

LONGEST_CHARACTERS = 8_000
"""Of a text that is shown: of a longer one its beginning and its end are left."""

# An expression begins with literal text and takes in all that it looked at: none looks twice at the same character.
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----).*?(?:-----END [A-Z ]{0,40}-----|\Z)", re.DOTALL)
_END_OF_KEY = re.compile(r"-----(BEGIN|END) [A-Z ]{0,40}PRIVATE KEY-----")
_DATA_URL = re.compile(r"(data:[\w/+.-]{0,100})[;,][^\s\"'<>]*", re.IGNORECASE)
_URL = re.compile(r"https?:[^\s\"'<>]+", re.IGNORECASE)
_QUERY = re.compile(r"(?:\?|%3F)[^\s\"'<>]*", re.IGNORECASE)  # of a path, a host, an escaped URL
_ASSIGNS = re.compile(r"=|%3D", re.IGNORECASE)
_USER = re.compile(r"(:(?:\\?/){2})[^\s/\"']+@")
_AUTHORIZATION = re.compile(r"(authorization\W{1,5})(?:[a-z][\w-]{2,20}\s{1,5})?[^\s\"',;}\]]+", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer\s{1,5})[\w.~+/-]{8,}=*", re.IGNORECASE)
_API_KEY = re.compile(r"vm_[\w-]{43}")  # one of ours
_COOKIE = re.compile(r"(cookie\\?[\"']?[ \t]{0,2}[=:][ \t]{0,2}\\?[\"']?)[^\"'\r\n\\]+", re.IGNORECASE)
_NAMED = re.compile(
    r"((?:token|(?:password|passwd|passphrase|[_-]pass|secret|signature|credential"
    r"|(?:api|access|private|account|secret|signing)[_-]?key(?:[_-]?id)?)s?)"
    r"\\?[\"']?[ \t]{0,2}(?:[=:]|%3D)[ \t]{0,2})"
    r"(?:(\\?[\"'])(?:.*?)(?=\2|$)|[^\s\"'<>,;&}\])]+)",
    re.IGNORECASE | re.MULTILINE,
)
_SUSPECT = re.compile(r"[:=?%]|-----BEGIN|vm_|bearer|authorization", re.IGNORECASE)
"""Each expression above needs one of these: most lines of a log have none."""
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?$|(^|_)(PG)?PASS$")
_PASSWORD_IN = re.compile(r"(?:password|passwd|secret|token|api_?key)=([^\s&;'\"]+)", re.IGNORECASE)
_SHORTEST_SECRET = 8
_own: set[str] = set()
_longest_first: list[str] = []


def keep_secret(*values: str) -> None:
    """From now on `redacted` hides these values too; not those under 8 characters, which would be found in words."""
    _own.update(value for value in values if len(value) >= _SHORTEST_SECRET)
    _longest_first[:] = _in_order(_own)


def secrets_in(environment: Mapping[str, str]) -> set[str]:
    """The passwords in its URLs and connection strings, as they are written and as they are meant, and values of
    variables named KEY, TOKEN, SECRET, PASSWORD or PASS; of a list of KEYS, each."""
    found: set[str] = set()
    for name, value in environment.items():
        if within := _passwords(value):
            found |= within
        elif _SECRET_NAME.search(name.upper()) and not value.startswith("/"):  # a path to a key is none
            found |= {value.strip(), *re.split(r"[\s,;]+", value)}
    return found - {""}


def keep_environment_secret() -> None:
    """`keep_secret` for all that `secrets_in` finds in this process's environment."""
    keep_secret(*secrets_in(os.environ))


def redacted(text: str, secret: str = "") -> str:
    """Servers, libraries and models quote what they were sent: signed URLs whole or in part, media, even keys. At most
    about 8,000 characters, whatever the length of `text`."""
    text = _cut(_without(text, _in_order((secret, *_own)) if secret else _longest_first))
    if not _SUSPECT.search(text):
        return text
    text = _DATA_URL.sub(r"\1,***", _PRIVATE_KEY.sub(r"\1***", text))
    text = _QUERY.sub(_without_query, _URL.sub(lambda url: re.sub(r"\?.*", "?***", url[0]), text))
    text = _AUTHORIZATION.sub(r"\1***", _USER.sub(r"\1", text))
    text = _API_KEY.sub("vm_***", text)
    text = _COOKIE.sub(r"\1***", _BEARER.sub(r"\1***", text))
    return _NAMED.sub(lambda named: f"{named[1]}{named[2] or ''}***", text)


def _cut(text: str) -> str:
    """The beginning and the end. Words and keys that the cut goes through are left out, for half a secret
    looks like none."""
    if len(text) <= LONGEST_CHARACTERS:
        return text
    half = LONGEST_CHARACTERS // 2
    beginning = " ".join(text[:half].rsplit(maxsplit=1)[:-1])
    end = " ".join(text[-half:].split(maxsplit=1)[1:])
    if (mark := _END_OF_KEY.search(end)) and mark[1] == "END":
        end = end[mark.start() :]
    return f"{beginning} […] {end}"


def _without_query(query: re.Match[str]) -> str:
    return "?***" if _ASSIGNS.search(query[0]) else query[0]


def _in_order(secrets: Iterable[str]) -> list[str]:
    """One may begin with another."""
    return sorted(secrets, key=len, reverse=True)


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _passwords(value: str) -> set[str]:
    """Those that a URL or a connection string holds."""
    found = set(_PASSWORD_IN.findall(value))
    if "://" in value:
        with suppress(ValueError):  # no URL after all
            found.add(urlsplit(value).password or "")
    found.discard("")
    return found | {unquote(password) for password in found}
