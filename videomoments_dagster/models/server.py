"""One model server over HTTP, direct or through an SSH tunnel: JSON or a file in, JSON out, retries in between.

What the questions and answers mean is for chat.py and speech.py. All of them are pure inference and safe to repeat.
"""

import ipaddress
import json as json_module
import os
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError, LocationValueError, NameResolutionError, ReadTimeoutError

from videomoments_dagster.errors import (
    ModelAnswerInvalid,
    ModelError,
    ModelNotConfigured,
    ModelRefused,
    ModelUnavailable,
    TunnelUnavailable,
)
from videomoments_dagster.models.dialect import Dialect
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.explanations import explanation
from videomoments_dagster.models.retries import Retries, asked_pause_seconds
from videomoments_dagster.models.session import Watch, caused_by, open_session, watched
from videomoments_dagster.multipart import MultipartFile
from videomoments_dagster.processes import Progress
from videomoments_dagster.redaction import keep_secret, redacted
from videomoments_dagster.settings import Settings

if TYPE_CHECKING:
    from videomoments_dagster.models.tunnels import TunnelPool

_TRY_LATER = {408, 409, 425, 429}
_LARGEST_ANSWER_BYTES = 64 * 1024**2
_LARGEST_EXPLANATION_BYTES = 64 * 1024
_BLOCK_BYTES = 64 * 1024
_MOST_SILENCES = 2
# One attempt as a whole: an upload at this pace, and so many times the longest silence.
_SLOWEST_BYTES_A_SECOND = 256 * 1024
_SILENCES_AN_ATTEMPT = 3
_SHOWN_CHARACTERS = 300


class RequestRefused(ModelRefused):
    """A ModelRefused with what the server said: `answer_status` and `explanation`, redacted but not shortened."""

    answer_status: int = 0
    explanation: str = ""


class NotJson(ModelUnavailable):
    """The server's port answers, and never in JSON: with a page of somebody in between, to log in or to come later."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file sent as multipart/form-data, read from disk as it goes; `on_progress` is told the share that is sent."""

    file: Path
    content_type: str = "application/octet-stream"
    on_progress: Progress | None = None

    def opened(self) -> "closing[MultipartFile]":
        """The body from its first byte. Each attempt needs its own."""
        return closing(MultipartFile(self.file, file_type=self.content_type, on_progress=self.on_progress))


class _Failed(Exception):
    """One attempt failed in a way that may pass. `reason` completes the sentence 'MODEL at HOST ...'."""

    def __init__(
        self,
        reason: str,
        *,
        silent: bool = False,
        asked_seconds: float | None = None,
        kind: type[ModelUnavailable] = ModelUnavailable,
    ) -> None:
        super().__init__(reason)
        self.reason, self.silent, self.asked_seconds, self.kind = reason, silent, asked_seconds, kind


class ModelServer:
    """The server of one registry entry. Threads may share it; connections are kept and used again.

    Raises ModelNotConfigured at once when the entry says neither where the server is nor how to reach it, or names an
    API key that is not in the environment.
    """

    def __init__(
        self,
        entry: ModelEntry,
        settings: Settings,
        pool: "TunnelPool | None" = None,
        *,
        retries: Retries | None = None,
        connect_seconds: float = 10.0,
    ) -> None:
        if entry.is_builtin or not entry.is_configured:
            raise ModelNotConfigured(f"The registry does not say where the model {entry.key} is.")
        self.entry, self._settings, self._pool = entry, settings, pool
        self._retries, self._connect_seconds = retries or Retries(), connect_seconds
        self.dialect = Dialect()
        self._session = open_session()
        self._key = _api_key(entry)
        self._session.auth = self._authorize  # always: or requests looks for passwords in ~/.netrc
        self._session.headers.update({"User-Agent": "VideoMoments", "Accept": "application/json"})
        if entry.ssh_host or _is_loopback(entry.base_url):  # which proxies can't see
            self._session.trust_env = False
            self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True

    @property
    def where(self) -> str:
        """The server's place for people to read: `host:port`, with the SSH host when there is one. No secrets."""
        if self.entry.ssh_host:
            return f"{self.entry.remote_host}:{self.entry.remote_port} behind {self.entry.ssh_host}"
        parts = urlsplit(self.entry.base_url)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"

    def post(self, path: str, *, json: Any = None, multipart: Upload | None = None) -> Any:
        """The server's answer, decoded from JSON. Asked again when what goes wrong may pass.

        Raises ModelUnavailable or TunnelUnavailable (to the end no answer, 408, 409, 425, 429 or 5xx, or an `error`
        in place of an answer; NotJson), RequestRefused (another 4xx, or a redirect), ModelRefused (a certificate or
        an address that can't be right), ModelNotConfigured (certificates or a proxy of this environment that can't be
        used), ModelAnswerInvalid (too large an answer), and what the tunnel refuses.
        """
        return self._ask("POST", path, json, multipart)

    def get(self, path: str) -> Any:
        """The same for a question without a body."""
        return self._ask("GET", path, None, None)

    def close(self) -> None:
        """Close the kept connections. The server may be used again."""
        self._session.close()

    def _ask(self, method: str, path: str, json: Any, multipart: Upload | None) -> Any:
        silences = 0
        for attempt in range(1, self._retries.attempts + 1):
            is_last, asked_seconds = attempt == self._retries.attempts, None
            try:
                return self._attempt(method, path, json, multipart)
            except _Failed as failed:
                silences += failed.silent
                if is_last or silences == _MOST_SILENCES:
                    tried = "" if attempt == 1 else f" ({attempt} attempts)"
                    raise failed.kind(f"{self.entry.key} at {self.where} {failed.reason}{tried}.") from None
                asked_seconds = failed.asked_seconds
            except (TunnelUnavailable, ModelUnavailable) as error:  # of the tunnel
                if is_last:
                    message = f"{self.entry.key}: {error.message.rstrip('.')} ({attempt} attempts)."
                    raise type(error)(message, hint=error.hint) from None
            Event().wait(self._retries.pause_seconds(attempt, asked_seconds))
        raise AssertionError  # the last attempt returns or raises

    def _attempt(self, method: str, path: str, json: Any, multipart: Upload | None) -> Any:
        silence_seconds = self.entry.timeout_seconds
        total_seconds = _SILENCES_AN_ATTEMPT * silence_seconds
        if multipart:
            total_seconds += multipart.file.stat().st_size / _SLOWEST_BYTES_A_SECOND
        with (
            self._address() as address,
            multipart.opened() if multipart else nullcontext() as body,
            watched(silence_seconds, total_seconds) as watch,
            self._named_failures(watch, total_seconds),
            self._session.request(
                method,
                _joined(address, path),
                json=json,
                data=body,
                headers={"Content-Type": body.content_type} if body else None,
                timeout=(min(self._connect_seconds, silence_seconds), silence_seconds),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            return self._decoded(response)

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    @contextmanager
    def _address(self) -> Iterator[str]:
        """The base URL; a tunnel counts as in use as long as the body runs."""
        if not self.entry.ssh_host:
            yield self.entry.base_url
            return
        from videomoments_dagster.models.tunnels import Route, tunnels  # direct servers need no SSH library

        with (self._pool or tunnels()).open(Route.of(self.entry, self._settings)) as (host, port):
            yield f"http://{host}:{port}"

    def _decoded(self, response: requests.Response) -> Any:
        status = response.status_code
        if 300 <= status < 400:
            elsewhere = urlsplit(response.headers.get("Location", "")).hostname or "another path"
            raise self._refused(response, f"it redirects to {elsewhere}, and redirects are not followed")
        if not response.ok:
            said = explanation(_content(response, _LARGEST_EXPLANATION_BYTES), secret=self._key)
            if status in _TRY_LATER or status >= 500:
                reason = f"answers {status}: {said[:_SHOWN_CHARACTERS] or response.reason}"
                raise _Failed(reason, asked_seconds=asked_pause_seconds(response.headers.get("Retry-After")))
            raise self._refused(response, said)
        content = _content(response, _LARGEST_ANSWER_BYTES)
        if len(content) > _LARGEST_ANSWER_BYTES:
            raise ModelAnswerInvalid(
                f"{self.entry.key} at {self.where} answers with more than {_LARGEST_ANSWER_BYTES} bytes."
            )
        try:
            answer = json_module.loads(content)
        except (ValueError, RecursionError):
            start = redacted(content[:60].decode(errors="replace"), self._key)
            raise _Failed(f"does not answer in JSON, but {start!r}", kind=NotJson) from None
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict | str) and answer["error"]:
            said = explanation(content[:_LARGEST_EXPLANATION_BYTES], secret=self._key)
            raise _Failed(f"answers {status} with an error: {said[:_SHOWN_CHARACTERS]}")
        return answer

    def _refused(self, response: requests.Response, said: str) -> RequestRefused:
        shown = said[:_SHOWN_CHARACTERS] or response.reason or "no reason given"
        error = RequestRefused(f"{self.entry.key} at {self.where} answers {response.status_code}: {shown}")
        error.answer_status, error.explanation = response.status_code, said
        return error

    @contextmanager
    def _named_failures(self, watch: Watch, total_seconds: float) -> Iterator[None]:
        """The HTTP libraries' errors as ours. Their own texts hold addresses with what may be secret in them."""
        silent = f"was silent for {self.entry.timeout_seconds:g} s"
        try:
            yield
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, LocationValueError) as error:
            raise self._bad_address(error) from None
        except requests.exceptions.ConnectTimeout:
            raise _Failed("does not accept a connection in time") from None
        except (requests.exceptions.RequestException, HTTPError, OSError) as error:
            if watch.expired.is_set():
                raise _Failed(f"did not finish its answer in {total_seconds:g} s", silent=True) from None
            if caused_by(error, ssl.SSLCertVerificationError):
                raise ModelRefused(f"The TLS certificate of {self.where} ({self.entry.key}) is not valid.") from None
            if caused_by(error, ReadTimeoutError) or caused_by(error, TimeoutError):
                raise _Failed(silent, silent=True) from None
            by_proxy = "can't be reached: its proxy " if caused_by(error, requests.exceptions.ProxyError) else ""
            if caused_by(error, NameResolutionError):
                raise _Failed(f"{by_proxy}can't be found: nobody knows that host name") from None
            if caused_by(error, ConnectionRefusedError):
                raise _Failed(f"{by_proxy}refuses the connection") from None
            if type(error) is OSError and error.errno is None:  # as requests has it
                raise ModelNotConfigured(
                    "The trusted certificates can't be read: REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names no file.",
                    hint="Set it to a file of PEM certificates in the environment of the workers, or unset it.",
                ) from None
            raise _Failed(f"broke off ({type(error).__name__})") from None

    def _bad_address(self, error: Exception) -> ModelError:
        """Of the server, or of the proxy that leads to it."""
        url, name = self.entry.base_url, type(error).__name__
        if self._session.trust_env and select_proxy(url, get_environ_proxies(url)):
            return ModelNotConfigured(
                f"The proxy for {self.entry.key} at {self.where} has no address that can be used ({name}).",
                hint="Proxies are http:// or https:// addresses: see HTTP_PROXY, HTTPS_PROXY and ALL_PROXY in the "
                "environment of the workers. NO_PROXY lists hosts that need none.",
            )
        return ModelRefused(f"{self.entry.key}: base_url is no http(s) address ({name}).")


def _content(response: requests.Response, largest_bytes: int) -> bytes:
    """The body, or its first `largest_bytes` and a little more."""
    content = bytearray()
    for block in response.raw.stream(_BLOCK_BYTES, decode_content=True):
        content += block
        if len(content) > largest_bytes:
            break
    return bytes(content)


def _api_key(entry: ModelEntry) -> str:
    variable = entry.api_key_variable
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not (key and key.isascii() and key.isprintable()):
        raise ModelNotConfigured(
            f"The API key of {entry.key} is missing: {variable} is not set, or holds no key.",
            hint=f"Set {variable} in the environment of the workers, or the entry's api_key_variable.",
        )
    keep_secret(key)
    return key


def _joined(address: str, path: str) -> str:
    """Many servers' documented base URL ends in /v1, and so do the paths begin."""
    return address + (path.removeprefix("/v1") if address.endswith("/v1") and path.startswith("/v1/") else path)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def storable(text: str) -> str:
    """The text without NUL, which PostgreSQL refuses, and halves of surrogate pairs, which UTF-8 can't hold."""
    return text.replace("\0", "").encode(errors="ignore").decode()
