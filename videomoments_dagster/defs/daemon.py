"""The Dagster daemon, prompt: `python -m videomoments_dagster.defs.daemon run -w WORKSPACE`, and its run queue.

Dagster starts sensor ticks every 5 s whatever their interval says, and has no setting for it: a request that comes just
after another would wait for all of that. And its queue is looked at every whole second at best.
"""

from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator

SENSOR_LOOP_SECONDS = 0.5
DEQUEUE_SECONDS = 0.5  # the daemon's own clock has no finer one


class PromptRunCoordinator(QueuedRunCoordinator):
    """Dagster's queue, looked at every DEQUEUE_SECONDS: its own setting takes whole seconds only."""

    @property
    def dequeue_interval_seconds(self) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        return DEQUEUE_SECONDS


def main() -> None:
    from videomoments_dagster.defs import logs  # only the daemon: every process loads its run coordinator

    logs.configure("daemon")
    logs.redact_errors()
    from dagster._daemon import cli, sensor

    sensor.MIN_INTERVAL_LOOP_TIME = SENSOR_LOOP_SECONDS
    cli.main()


if __name__ == "__main__":
    main()
