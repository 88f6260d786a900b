"""What the administration's operations answer: the temporary files of the API's host."""

from pydantic import ConfigDict

from api.schemas.base import Output
from videomoments_dagster.disk_usage import Amount
from videomoments_dagster.temp_files import TempStats, Usage

_USAGE = {
    "purpose": "downloads",
    "directories": 2,
    "files": 4,
    "size_bytes": 734003200,
    "in_use": 1,
    "oldest_seconds": 5400.0,
}


class TempUsage(Output):
    """`in_use` counts directories that somebody works in; `oldest_seconds` is since the last write to the one that has
    waited longest."""

    model_config = ConfigDict(json_schema_extra={"example": _USAGE})

    purpose: str
    directories: int
    files: int
    size_bytes: int
    in_use: int
    oldest_seconds: float


class TempFolder(Output):
    """All temporary files of a host, and what is left on their disk."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "total": {**_USAGE, "purpose": "all"},
                "purposes": [_USAGE],
                "kept_at_most_bytes": 53687091200,
                "free_bytes": 214748364800,
                "disk_bytes": 536870912000,
            }
        }
    )

    total: TempUsage
    purposes: list[TempUsage]
    kept_at_most_bytes: int
    free_bytes: int
    disk_bytes: int


class Removed(Output):
    model_config = ConfigDict(json_schema_extra={"example": {"directories": 1, "files": 2, "size_bytes": 367001600}})

    directories: int
    files: int
    size_bytes: int


def temp_folder(stats: TempStats, kept_at_most_bytes: int) -> TempFolder:
    return TempFolder(
        total=_usage(stats.all),
        purposes=[_usage(each) for each in stats.purposes],
        kept_at_most_bytes=kept_at_most_bytes,
        free_bytes=stats.free_bytes,
        disk_bytes=stats.disk_bytes,
    )


def removed(amount: Amount) -> Removed:
    return Removed(directories=amount.directories, files=amount.files, size_bytes=amount.size_bytes)


def _usage(usage: Usage) -> TempUsage:
    return TempUsage(
        purpose=usage.purpose,
        directories=usage.amount.directories,
        files=usage.amount.files,
        size_bytes=usage.amount.size_bytes,
        in_use=usage.in_use,
        oldest_seconds=usage.oldest_seconds,
    )
