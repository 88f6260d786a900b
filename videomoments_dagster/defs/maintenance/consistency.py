"""The scheduled consistency sweep: a dry run, whose numbers the UI plots and whose findings it shows."""

import dagster as dg

from videomoments_dagster.defs import metadata
from videomoments_dagster.defs.consistency.report import Finding, Report
from videomoments_dagster.defs.consistency.sweep import sweep
from videomoments_dagster.defs.resources import PlatformResource

CHECK = "nothing_is_inconsistent"
_SHOWN = 100  # rows of the table: metadata is a row of Dagster's database
_FIRST = 10


@dg.asset(
    group_name="maintenance",
    kinds={"postgres", "redis", "gcs"},
    owners=["team:platform"],
    check_specs=[
        dg.AssetCheckSpec(
            CHECK, asset="consistency", description="Rows, objects, partitions, locks and statuses agree."
        )
    ],
)
def consistency(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """What rows, objects, partitions, locks, slots and statuses disagree about. Nothing is changed here:
    `videomoments sweep --fix` mends it."""
    report = sweep(context.instance, platform, fix=False)
    return dg.MaterializeResult(
        metadata={
            **{kind.value: count for kind, count in report.found.items()},
            "total": report.total,
            "videos": report.videos,
            "objects": report.objects,
            "in_work": report.in_work,
            "seconds": dg.MetadataValue.float(report.seconds),
            "findings": _table(report.findings[:_SHOWN]),
        },
        check_results=[_result(report)],
    )


def _result(report: Report) -> dg.AssetCheckResult:
    shown: dict[str, dg.MetadataValue] = {"findings": _table(report.findings[:_FIRST])} if report.findings else {}
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=not report.total,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{report.total} things are inconsistent; `videomoments sweep --fix` mends what it can."
        if report.total
        else None,
        metadata={"total": report.total, **shown},
    )


def _table(findings: tuple[Finding, ...]) -> dg.MarkdownMetadataValue:
    rows = [(found.kind.value, found.video, found.name, found.wrong, found.fix) for found in findings]
    return metadata.table(["what", "video", "name", "wrong", "fix"], rows)
