"""What a consistency sweep found: exact counts of every kind, and the first findings of each. No looking here."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

MOST_SHOWN = 1000
"""Findings of a kind that are kept to be shown; all are counted."""
_log = logging.getLogger("videomoments.sweep")


class Kind(StrEnum):
    """What can be wrong, as reports and metadata name it."""

    ROW_WITHOUT_OBJECT = "rows_without_objects"
    OBJECT_WITHOUT_ROW = "objects_without_rows"
    PARTITION_WITHOUT_REQUEST = "partitions_without_requests"
    VIDEO_WITHOUT_PARTITION = "videos_without_partitions"
    TRANSCRIPT_WITHOUT_PASSAGES = "transcripts_without_passages"
    STUCK_REQUEST = "stuck_requests"
    STUCK_HISTORY = "stuck_history"
    STUCK_STATUS = "stuck_statuses"
    LEAKED_LOCK = "leaked_locks"
    LEAKED_SLOT = "leaked_slots"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `name` is the thing: an object, a partition, a request, a run; `fix` says what the fix
    does or, when `fixed`, did."""

    kind: Kind
    video: str
    name: str
    wrong: str
    fix: str
    fixed: bool


@dataclass(frozen=True, slots=True)
class Report:
    """A whole sweep. `videos` and `objects` were looked at; `in_work` videos disagree while somebody works on them, and
    were left alone."""

    fix: bool
    found: dict[Kind, int]
    fixed: dict[Kind, int]
    findings: tuple[Finding, ...]
    videos: int
    objects: int
    in_work: int
    seconds: float

    @property
    def total(self) -> int:
        return sum(self.found.values())

    @property
    def left(self) -> int:
        """What is wrong still."""
        return self.total - sum(self.fixed.values())


@dataclass(slots=True)
class Findings:
    """Collects a report while the sweep goes on. With `fix`, what is found is mended at once, but nothing deleted that
    nothing can make again: that takes `delete`."""

    fix: bool
    delete: bool = False
    videos: int = 0
    objects: int = 0
    in_work: int = 0
    _found: Counter[Kind] = field(default_factory=Counter)
    _fixed: Counter[Kind] = field(default_factory=Counter)
    _kept: dict[Kind, list[Finding]] = field(default_factory=lambda: {kind: [] for kind in Kind})
    _begun: float = field(default_factory=time.monotonic)

    def add(
        self,
        kind: Kind,
        video: str,
        name: str,
        wrong: str,
        *,
        fix: str,
        fixed: str = "",
        mend: Callable[[], bool] | None = None,
        deletes: bool = False,
    ) -> None:
        """`fix` says what the fix does, `fixed` what it did. `mend` looks again and does it; False when nothing is
        wrong any more, which is no finding then. Without it nothing can be done from here. `deletes`: nothing brings
        back what it mends, so that it is asked for by itself, and logged."""
        allowed = self.fix and (self.delete or not deletes)
        mended = allowed and mend is not None and mend()
        if allowed and mend and not mended:
            return
        if mended and deletes:
            _log.info("The sweep deleted %s, %s.", name, kind, extra={"video": video})
        self._found[kind] += 1
        self._fixed[kind] += mended
        if len(self._kept[kind]) < MOST_SHOWN:
            self._kept[kind].append(Finding(kind, video, name, wrong, fixed if mended else fix, mended))

    def report(self) -> Report:
        return Report(
            fix=self.fix,
            found={kind: self._found[kind] for kind in Kind},
            fixed={kind: self._fixed[kind] for kind in Kind},
            findings=tuple(finding for kind in Kind for finding in self._kept[kind]),
            videos=self.videos,
            objects=self.objects,
            in_work=self.in_work,
            seconds=time.monotonic() - self._begun,
        )
