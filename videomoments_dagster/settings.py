"""The one settings object: read from the environment, with what the embedded stack wrote down as the default.

Code elsewhere asks `get_settings()` and does not know whether a service is embedded or configured. Every field's
name in the environment is its alias; the README lists them all (a test compares).
"""

import json
import os
import re
import secrets
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from videomoments_dagster.api_keys import new_key
from videomoments_dagster.errors import InvalidConfig, ServiceUnavailable

_DRIVER = "postgresql+psycopg2://"
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:.]+\](:\d{1,5})?")
QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
"""What a queue of runs may be called."""


def with_driver(url: str) -> str:
    """A PostgreSQL URL with its driver written out: a bare `postgresql://` means psycopg 3 to SQLAlchemy 2.1."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme in {"postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"}:
        return _DRIVER + rest
    return url


class Settings(BaseSettings):
    """All settings. Times are seconds, sizes bytes. An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    home: Path = Field(Path(".videomoments"), alias="VIDEOMOMENTS_HOME", description="Data directory of the platform")

    configured_database_url: SecretStr | None = Field(
        None, alias="DATABASE_URL", description="PostgreSQL 15 or newer; embedded when unset"
    )
    configured_dagster_database_url: SecretStr | None = Field(
        None, alias="DAGSTER_DATABASE_URL", description="Dagster's own database; `<database>_dagster` when unset"
    )
    configured_redis_url: SecretStr | None = Field(
        None, alias="REDIS_URL", description="Redis 6.2 or newer; embedded when unset"
    )
    gcs_bucket_name: str | None = Field(None, alias="GCS_BUCKET_NAME", description="Bucket; a directory when unset")
    gcs_credentials_path: Path | None = Field(
        None, alias="GCS_CREDENTIALS_PATH", description="Service account key file; the machine's credentials when unset"
    )

    backend_host: str = Field("127.0.0.1", alias="BACKEND_HOST", description="Address the API listens on")
    backend_port: int = Field(7005, alias="BACKEND_PORT", description="Port of the API")
    dagster_port: int = Field(3000, alias="DAGSTER_PORT", description="Port of the Dagster UI")
    configured_public_url: str | None = Field(
        None, alias="VIDEOMOMENTS_PUBLIC_URL", description="The API's address as its users see it, for signed URLs"
    )
    signed_url_seconds: int = Field(
        3600, gt=0, alias="VIDEOMOMENTS_SIGNED_URL_SECONDS", description="Life of a signed URL"
    )

    api_key: SecretStr | None = Field(
        None, alias="VIDEOMOMENTS_API_KEY", description="The API key that the commands send; `videomoments keys create`"
    )
    rate_limit: int = Field(
        1200, ge=0, alias="VIDEOMOMENTS_RATE_LIMIT", description="Requests a minute for each API key; 0: any number"
    )
    cors_origins: str = Field(
        "",
        alias="VIDEOMOMENTS_CORS_ORIGINS",
        description="Web pages of other addresses that may ask the API: `https://app.example.org`, separated by commas",
    )

    allow_private_urls: bool = Field(
        False, alias="VIDEOMOMENTS_ALLOW_PRIVATE_URLS", description="Fetch videos from private addresses too"
    )
    configured_fetch_ports: str = Field(
        "80,443", alias="VIDEOMOMENTS_FETCH_PORTS", description="Ports of public hosts that are connected to, by comma"
    )
    pages: bool = Field(
        True, alias="VIDEOMOMENTS_PAGES", description="Fetch videos from pages that show them, with yt-dlp"
    )
    max_download_bytes: int = Field(
        20 * 1024**3, gt=0, alias="VIDEOMOMENTS_MAX_DOWNLOAD_BYTES", description="Largest video that is fetched"
    )
    fetch_timeout_seconds: float = Field(
        30.0, gt=0, alias="VIDEOMOMENTS_FETCH_TIMEOUT_SECONDS", description="Longest silence of a video's server"
    )
    media_timeout_seconds: float = Field(
        3600.0, gt=0, alias="VIDEOMOMENTS_MEDIA_TIMEOUT_SECONDS", description="Longest single operation on media"
    )
    media_memory_bytes: int = Field(
        4 * 1024**3, gt=0, alias="VIDEOMOMENTS_MEDIA_MEMORY_BYTES", description="Memory of one media process"
    )
    speech_processes: int = Field(
        os.cpu_count() or 1, gt=0, alias="VIDEOMOMENTS_SPEECH_PROCESSES", description="Processes of builtin_speech"
    )
    clip_processes: int = Field(
        4, gt=0, alias="VIDEOMOMENTS_CLIP_PROCESSES", description="Clips cut at the same time (pool clip_extraction)"
    )
    max_concurrent_runs: int = Field(
        2, gt=0, alias="VIDEOMOMENTS_MAX_CONCURRENT_RUNS", description="Videos processed at the same time"
    )
    temp_bytes: int = Field(
        50 * 1024**3,
        ge=0,
        alias="VIDEOMOMENTS_TEMP_BYTES",
        description="Most that temporary files nobody works with, such as interrupted downloads, may take on a host",
    )
    event_days: int = Field(
        14, ge=1, alias="VIDEOMOMENTS_EVENT_DAYS", description="Days that Dagster keeps the detailed events of a run"
    )
    log_format: Literal["json", "text"] = Field(
        "json", alias="VIDEOMOMENTS_LOG_FORMAT", description="Lines of the logs: `json` for programs, `text` for people"
    )
    pool_limits: Annotated[dict[str, int], NoDecode] = Field(
        {},
        alias="VIDEOMOMENTS_POOL_LIMITS",
        description='Slots of Dagster\'s pools over all hosts, where not the defaults: `{"transcription": 8}`',
    )
    worker_processes: int = Field(
        os.cpu_count() or 1,
        ge=0,
        alias="VIDEOMOMENTS_WORKER_PROCESSES",
        description="Runs that this host's worker executes at the same time; 0: no worker here",
    )
    worker_queues: str = Field(
        "video", alias="VIDEOMOMENTS_WORKER_QUEUES", description="Queues this host's worker takes runs from, by comma"
    )
    worker_max_runs: int = Field(
        100, gt=0, alias="VIDEOMOMENTS_WORKER_MAX_RUNS", description="Runs after which a worker process is replaced"
    )
    worker_memory_bytes: int = Field(
        1024**3,
        gt=0,
        alias="VIDEOMOMENTS_WORKER_MEMORY_BYTES",
        description="Memory above which a worker process is replaced after its run",
    )
    worker_grace_seconds: float = Field(
        10.0,
        ge=0,
        alias="VIDEOMOMENTS_WORKER_GRACE_SECONDS",
        description="How long a stopping worker lets its runs finish before it hands them back",
    )
    speech_model: str | None = Field(
        None,
        alias="VIDEOMOMENTS_SPEECH_MODEL",
        description="Model that transcribes; `parakeet` where it is configured, else `builtin_speech`",
    )
    generation_model: str | None = Field(
        None,
        alias="VIDEOMOMENTS_GENERATION_MODEL",
        description="Model that finds moments; `qwen3_vl_fp8` where it is configured, else `builtin_moments`",
    )
    refinement_model: str | None = Field(
        None, alias="VIDEOMOMENTS_REFINEMENT_MODEL", description="Model that refines boundaries; the same"
    )
    scoring_model: str | None = Field(
        None, alias="VIDEOMOMENTS_SCORING_MODEL", description="Model that scores moments; the same"
    )
    ssh_host: str | None = Field(
        None, alias="VIDEOMOMENTS_SSH_HOST", description="SSH host of the models that name none of their own"
    )
    ssh_port: int = Field(22, ge=1, le=65535, alias="VIDEOMOMENTS_SSH_PORT", description="Its port")
    ssh_user: str | None = Field(None, alias="VIDEOMOMENTS_SSH_USER", description="User on the models' SSH hosts")
    ssh_key_file: Path | None = Field(
        None, alias="VIDEOMOMENTS_SSH_KEY_FILE", description="Private key for them; the SSH agent's keys when unset"
    )
    ssh_known_hosts: Path = Field(
        Path("~/.ssh/known_hosts"),
        alias="VIDEOMOMENTS_SSH_KNOWN_HOSTS",
        description="The host keys that are accepted; no other host is connected to",
    )
    tunnel_idle_seconds: float = Field(
        300.0, gt=0, alias="VIDEOMOMENTS_TUNNEL_IDLE_SECONDS", description="An unused SSH tunnel is closed after this"
    )
    clock_check: Literal["refuse", "warn", "off"] = Field(
        "refuse",
        alias="VIDEOMOMENTS_CLOCK_CHECK",
        description="What happens to a model whose times are found wrong: `refuse`, `warn`, or `off`: never checked",
    )

    postgres_bin: Path | None = Field(
        None,
        alias="VIDEOMOMENTS_POSTGRES_BIN",
        description="Directory of the embedded server's `postgres` and `initdb`",
    )
    debug: bool = Field(False, alias="VIDEOMOMENTS_DEBUG", description="Unexpected errors show where they come from")

    @field_validator("pool_limits", mode="before")
    @classmethod
    def _from_json(cls, limits: object) -> object:
        """Not left to pydantic-settings, whose error does not name the variable."""
        return json.loads(limits) if isinstance(limits, str) else limits

    @field_validator("worker_queues")
    @classmethod
    def _queue_names(cls, queues: str) -> str:
        names = [name.strip() for name in queues.split(",")]
        if not all(QUEUE_NAME.fullmatch(name) for name in names):
            raise ValueError("names of letters, digits, '-' and '_', separated by commas")
        return ",".join(names)

    @field_validator("configured_fetch_ports")
    @classmethod
    def _ports(cls, ports: str) -> str:
        numbers = [number.strip() for number in ports.split(",")]
        if not all(re.fullmatch(r"[0-9]{1,5}", number) and 0 < int(number) < 65536 for number in numbers):
            raise ValueError("port numbers, separated by commas")
        return ",".join(numbers)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: str) -> str:
        names = [name.strip() for name in origins.split(",") if name.strip()]
        if not all(_ORIGIN.fullmatch(name) for name in names):
            raise ValueError("origins such as https://app.example.org, without a path; '*' is none")
        return ",".join(names)

    @field_validator("home", "ssh_known_hosts", "ssh_key_file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path else None

    @property
    def fetch_ports(self) -> frozenset[int]:
        """The ports that URLs of a user's choosing may name."""
        return frozenset(map(int, self.configured_fetch_ports.split(",")))

    @property
    def origins(self) -> list[str]:
        """Those of `cors_origins`."""
        return [origin for origin in self.cors_origins.split(",") if origin]

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the product database. Raises ServiceUnavailable when none is configured or running."""
        if self.configured_database_url:
            return with_driver(self.configured_database_url.get_secret_value())
        return self._embedded("database_url")

    @property
    def dagster_database_url(self) -> str:
        """SQLAlchemy URL of Dagster's own database, on the same server unless configured otherwise."""
        if self.configured_dagster_database_url:
            return with_driver(self.configured_dagster_database_url.get_secret_value())
        address, question, options = self.database_url.partition("?")
        return f"{address}_dagster{question}{options}"

    @property
    def redis_url(self) -> str:
        """URL of Redis. Raises ServiceUnavailable when none is configured or running."""
        if self.configured_redis_url:
            return self.configured_redis_url.get_secret_value()
        return self._embedded("redis_url")

    @property
    def public_url(self) -> str:
        """Base URL under which users reach the API, without a trailing slash."""
        try:
            return self.api_url
        except ServiceUnavailable:
            return f"http://{self.backend_host}:{self.backend_port}"

    @property
    def api_url(self) -> str:
        """The API that clients ask: the configured one or that of the platform in `home`, never a stranger's on the
        default port. Raises ServiceUnavailable when there is neither."""
        if self.configured_public_url:
            return self.configured_public_url.rstrip("/")
        if self.configured_database_url:
            return f"http://{self.backend_host}:{self.backend_port}"
        return self._embedded("api_url")

    @property
    def objects_directory(self) -> Path:
        return self.home / "objects"

    @property
    def temp_directory(self) -> Path:
        return self.home / "temp"

    @property
    def connections_file(self) -> Path:
        """Where a running embedded stack writes its addresses: JSON, mode 0600."""
        return self.home / "connections.json"

    @property
    def signing_key(self) -> bytes:
        """The key that signs URLs of the directory store: random, one a data directory, made on first use."""
        return self._made_once("signing.key", lambda: secrets.token_hex(32)).encode()

    @property
    def operator_key(self) -> str:
        """The API key of whoever can read the data directory: admin at the API that has the same one. Made on first
        use, mode 0600. Raises OSError for somebody else's."""
        return self._made_once("api.key", new_key).strip()

    def _made_once(self, name: str, make: Callable[[], str]) -> str:
        path = self.home / name
        if not path.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{name}.{os.getpid()}.{secrets.token_hex(4)}")
            fresh.touch(mode=0o600)
            fresh.write_text(make())
            try:
                os.link(fresh, path)  # the first of several processes wins, whole
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text()

    def _embedded(self, key: str) -> str:
        try:
            return str(json.loads(self.connections_file.read_text())[key])
        except (OSError, ValueError, KeyError):
            raise ServiceUnavailable(
                f"No platform runs in {self.home} and {key.upper()} is not set.",
                hint="Start it with `videomoments up --detach` (or `make up`), or set DATABASE_URL and REDIS_URL.",
            ) from None


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process; raises InvalidConfig naming each variable that is wrong. Tests clear the cache
    after they change the environment."""
    try:
        return Settings()  # pyright: ignore[reportCallIssue]  # every field has a default
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_input=False))
        raise InvalidConfig(f"The environment can't be used. {faults}.", hint="Correct or unset it.") from None
