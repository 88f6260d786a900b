"""The `temp_files` asset: unused temporary files of the host that executes it go, and what is there is shown."""

from socket import gethostname

import dagster as dg

from videomoments_dagster.defs import metadata
from videomoments_dagster.defs.resources import PlatformResource

_CHECK = "disk_has_room"
_LEAST_FREE = 0.05  # of the disk: what ext4 itself keeps back; a fuller disk fragments, and fails soon
_MEGABYTE = 1_000_000


@dg.asset(
    group_name="maintenance",
    kinds={"python"},
    owners=["team:platform"],
    check_specs=[
        dg.AssetCheckSpec(
            _CHECK, asset="temp_files", description="A twentieth of the disk with temporary files is free."
        )
    ],
)
def temp_files(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Temporary files that nobody works with, gone: leftovers of dead processes, and interrupted downloads that are
    older than a day or, together, larger than VIDEOMOMENTS_TEMP_BYTES. Every host with a worker does the same for
    itself; this is the one that happens to execute the run."""
    removed, stats = platform.temp.clean(), platform.temp.stats()
    total, host = stats.all, gethostname()
    has_room = stats.free_bytes >= _LEAST_FREE * stats.disk_bytes
    return dg.MaterializeResult(
        metadata={
            "host": host,
            "removed_files": removed.files,
            "removed_bytes": removed.size_bytes,
            "files": total.amount.files,
            "size_bytes": total.amount.size_bytes,
            "directories": total.amount.directories,
            "directories_in_use": total.in_use,
            "free_bytes": stats.free_bytes,
            "by_purpose": metadata.table(
                ["purpose", "directories", "in use", "files", "MB", "oldest"],
                [
                    (
                        each.purpose,
                        each.amount.directories,
                        each.in_use,
                        each.amount.files,
                        round(each.amount.size_bytes / _MEGABYTE),
                        each.oldest_seconds,
                    )
                    for each in stats.purposes
                ],
            ),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=_CHECK,
                passed=has_room,
                severity=dg.AssetCheckSeverity.WARN,
                description=None
                if has_room
                else f"{stats.free_bytes // _MEGABYTE} MB are free where {platform.settings.temp_directory} lies, on "
                f"{host}: videos will soon fail with disk_full. Free space, or move VIDEOMOMENTS_HOME.",
                metadata={"free_bytes": stats.free_bytes, "disk_bytes": stats.disk_bytes},
            )
        ],
    )
