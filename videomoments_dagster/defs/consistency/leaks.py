"""Locks and pool slots that are held for what is over. Leases and flags to cancel end by themselves within minutes."""

from collections import defaultdict
from collections.abc import Collection

from db.queries import consistency as queries
from db.queries.requests import ACTIVE
from videomoments_dagster.defs.consistency import work as timing
from videomoments_dagster.defs.consistency.report import Kind
from videomoments_dagster.defs.consistency.work import Work, batches, ended_long_ago
from videomoments_dagster.defs.policies import PARTITION_TAG
from videomoments_dagster.requests.lock import HeldLock, PipelineLock


def sweep_locks(work: Work) -> None:
    """Locks whose owner, a request or a run, is over or unknown, and that nobody renewed for a while."""
    seen: set[str] = set()
    idle = (lock for lock in PipelineLock(work.platform.redis).held() if lock.idle_seconds >= timing.PATIENCE_SECONDS)
    for batch in batches(idle):
        for lock in _leaked_of(work, [each for each in batch if each.video not in seen]):
            seen.add(lock.video)
            work.findings.add(
                Kind.LEAKED_LOCK,
                lock.video,
                f"pipeline:{lock.video}:lock",
                f"It is held for {lock.owner}, which is over.",
                fix="Releases it.",
                fixed="Released.",
                mend=lambda lock=lock: _release(work, lock),
            )


def sweep_slots(work: Work) -> None:
    """Pool slots that runs hold or wait for which have ended."""
    storage = work.instance.event_log_storage
    held: dict[str, set[str]] = defaultdict(set)
    for pool in sorted(storage.get_concurrency_keys()):
        info = storage.get_concurrency_info(pool)
        for slot in info.claimed_slots:
            held[slot.run_id].add(f"a slot of {pool} for {slot.step_key}")
        claimed = {(slot.run_id, slot.step_key) for slot in info.claimed_slots}
        for step in info.pending_steps:
            if (step.run_id, step.step_key) not in claimed:
                held[step.run_id].add(f"a place in the queue of {pool} for {step.step_key}")
    for batch in batches(sorted(held)):
        runs = work.runs(batch)
        for run_id in batch:
            run = runs.get(run_id)
            if run and not ended_long_ago(run):
                continue
            work.findings.add(
                Kind.LEAKED_SLOT,
                run.dagster_run.tags.get(PARTITION_TAG, "") if run else "",
                run_id,
                f"The run is over and holds {', '.join(sorted(held[run_id]))}.",
                fix="Frees them.",
                fixed="Freed.",
                mend=lambda run_id=run_id: _free(work, run_id),
            )


def _leaked_of(work: Work, locks: Collection[HeldLock]) -> list[HeldLock]:
    owners = [lock.owner for lock in locks]
    with work.platform.database.read() as session:
        asked_for = work.asked_for(session, [lock.video for lock in locks])
        requests = queries.requests_of(session, owners)
    runs = work.runs([owner for owner in owners if owner not in requests])
    living = {each.request_id for each in requests.values() if each.state in ACTIVE}
    living |= {run_id for run_id, run in runs.items() if not ended_long_ago(run)}
    return [lock for lock in locks if lock.owner not in living and lock.video not in asked_for]


def _release(work: Work, lock: HeldLock) -> bool:
    return bool(_leaked_of(work, [lock])) and PipelineLock(work.platform.redis).release(lock.video, lock.owner)


def _free(work: Work, run_id: str) -> bool:
    run = work.runs([run_id]).get(run_id)
    if run and not ended_long_ago(run):
        return False
    work.instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    return True
