"""The asset `failures`: what stands of failed videos, as numbers the UI plots and a table, with a check for what no
retry will mend.
"""

from collections import Counter

import dagster as dg

from db.queries import failures as failure_queries
from db.queries.failures import FailureView
from videomoments_dagster.defs.metadata import table
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.requests.stages import Stage

_SHOWN = 100
_NO_STAGE = "no_stage"
_CHECK = "no_permanent_failures"


@dg.asset(
    group_name="maintenance",
    owners=["team:platform"],
    kinds={"postgres"},
    check_specs=[
        dg.AssetCheckSpec(_CHECK, asset="failures", description="No video's newest run failed for good; see the hints.")
    ],
)
def failures(platform: PlatformResource) -> dg.MaterializeResult:
    """Videos whose newest run failed or ended partial. Permanent ones need somebody: another source, another model, a
    setting; retryable ones may succeed when they are asked for again (`videomoments retry --failed`)."""
    stages = Counter(dict.fromkeys([*map(str, Stage), _NO_STAGE], 0))
    kinds: Counter[bool | None] = Counter()
    permanent: list[FailureView] = []
    others: list[FailureView] = []
    with platform.database.read() as session:
        for failure in failure_queries.every(session):
            stages[failure.stage or _NO_STAGE] += 1
            kinds[failure.retryable] += 1
            keep = permanent if failure.retryable is False else others
            if len(keep) < _SHOWN:
                keep.append(failure)
    return dg.MaterializeResult(
        metadata={
            "total": kinds.total(),
            "permanent": kinds[False],
            "retryable": kinds[True],
            "unknown": kinds[None],
            **{f"in_{stage}": count for stage, count in stages.items()},
            "failures": _table([*permanent, *others][:_SHOWN]),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=_CHECK,
                passed=not permanent,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"permanent": kinds[False], "failures": _table(permanent)},
            )
        ],
    )


def _table(rows: list[FailureView]) -> dg.MarkdownMetadataValue:
    return table(
        ["video", "failed", "stage", "code", "message", "hint"],
        [
            (
                row.video_identifier,
                f"{row.failed_at:%Y-%m-%d %H:%M}",
                row.stage or "",
                row.code or row.status,
                row.message,
                row.hint,
            )
            for row in rows
        ],
    )
