"""The HTTP API as the commands ask it: problems become errors, files are streamed, lists are followed to their end."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from videomoments_dagster.errors import InvalidInput, ServiceUnavailable, VideoMomentsError
from videomoments_dagster.multipart import MultipartFile
from videomoments_dagster.settings import get_settings

_TIMEOUT_SECONDS = (5, 60)
_LONG_TIMEOUT_SECONDS = (5, 3600)  # the answer comes when the file is stored, or every object is deleted


class Api:
    """A client of one API; by default the one of the settings. Every method raises VideoMomentsError: the problem's
    code, message and hint, or ServiceUnavailable when nobody answers."""

    def __init__(self, url: str | None = None) -> None:
        self.url = (url or get_settings().api_url).rstrip("/")
        self._session = requests.Session()
        self._session.auth = _Bearer(_key_for(self.url))
        if urlsplit(self.url).hostname in {"localhost", "127.0.0.1", "::1"}:
            self._session.trust_env = False  # a proxy for the internet can't reach this machine's loopback

    def get(self, path: str, **query: Any) -> Any:
        return self._ask("GET", path, params={key: value for key, value in query.items() if value is not None})

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", path, json=body)

    def delete(self, path: str, **query: Any) -> Any:
        """Answers with what was removed."""
        headers = {"Prefer": "return=representation"}
        return self._ask("DELETE", path, params=query, headers=headers, is_long=True)

    def upload(self, path: str, file: Path, fields: dict[str, str]) -> Any:
        """POST `file` as the form field `file`, without ever holding it in memory."""
        try:
            form = MultipartFile(file, fields)
        except OSError as error:
            raise InvalidInput(f"{file} can't be read: {error.strerror}.") from None
        return self._ask("POST", path, data=form, headers={"Content-Type": form.content_type}, is_long=True)

    def items(self, path: str, limit: int, **query: Any) -> list[Any]:
        """Up to `limit` items of a paged list."""
        found: list[Any] = []
        cursor = None
        while len(found) < limit:
            page = self.get(path, limit=min(200, limit - len(found)), cursor=cursor, **query)
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        return found

    def exchange(self, method: str, path: str, *, is_long: bool = False, **options: Any) -> requests.Response:
        """For those who speak HTTP themselves: an answer that is no problem."""
        timeout = _LONG_TIMEOUT_SECONDS if is_long else _TIMEOUT_SECONDS
        try:
            response = self._session.request(method, self.url + path, timeout=timeout, **options)
        except requests.RequestException as error:
            raise ServiceUnavailable(
                f"The API at {self.url} does not answer ({type(error).__name__}).",
                hint="Start the platform with `videomoments up --detach` (or `make up`).",
            ) from None
        if response.status_code >= 400:
            raise _problem(response)
        return response

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        response = self.exchange(method, path, **options)
        return response.json() if response.content else None


class _Bearer(AuthBase):
    """Sends the key, if there is one. As the session's `auth` it keeps what ~/.netrc says out of the header, and is
    not sent on to another host by a redirect."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _key_for(url: str) -> str | None:
    """The configured key; else the operator's, at the platform that runs in this data directory: while none does,
    anybody may listen where one was."""
    settings = get_settings()
    if settings.api_key:
        return settings.api_key.get_secret_value().strip()
    if not settings.connections_file.exists():
        return None
    from videomoments_dagster.stack.home import Home  # Redis, psutil

    if Home(settings.home).running().get("api_url") != url:
        return None
    try:
        return settings.operator_key
    except OSError:  # somebody else's
        return None


def _problem(response: requests.Response) -> VideoMomentsError:
    try:
        problem = response.json()
        error = VideoMomentsError(problem["detail"], hint=problem["hint"])
        error.code, error.status, error.retryable = problem["code"], problem["status"], problem["retryable"]
    except (ValueError, KeyError, TypeError):
        where = urlsplit(response.url)
        return VideoMomentsError(
            f"{where.scheme}://{where.netloc} answers {response.status_code}, but not as VideoMoments does.",
            hint="Does something else listen there? VIDEOMOMENTS_PUBLIC_URL and BACKEND_PORT say where the API is.",
        )
    return error
