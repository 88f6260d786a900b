"""`videomoments worker` and `workers`: who executes runs, on this host and on the others."""

import os
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from videomoments_dagster.cli.output import console, messages, print_json
from videomoments_dagster.redis_connection import connect, reaching
from videomoments_dagster.requests.workers import WorkerRegistry
from videomoments_dagster.settings import QUEUE_NAME, get_settings
from videomoments_dagster.stack.home import Home


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", min=1, help="Runs at the same time; the settings' if unset"),
    ] = None,
    queues: Annotated[str | None, typer.Option("--queues", "-Q", help="Queues to take runs from, by comma")] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Read the code anew for every run")] = False,
) -> None:
    """Execute runs on this host until it is stopped.

    Ctrl-C or SIGTERM lets runs finish for VIDEOMOMENTS_WORKER_GRACE_SECONDS, then hands them back.
    The host must reach PostgreSQL, Redis and the object store: set DATABASE_URL, REDIS_URL and GCS_BUCKET_NAME as on
    the host of the platform. Workers may come and go at any time.
    """
    from db.session import Database  # `workers` needs none

    settings = get_settings()
    database = Database(settings.database_url)
    database.ping()
    database.dispose()
    with reaching(client := connect(settings.redis_url)), client:
        client.ping()
    if queues and not all(QUEUE_NAME.fullmatch(name) for name in queues.split(",")):
        raise typer.BadParameter("Names of letters, digits, '-' and '_', separated by commas.", param_hint="--queues")
    home = Home(settings.home)
    home.make()
    os.environ |= {
        "VIDEOMOMENTS_HOME": str(home.path),
        "DATABASE_URL": settings.database_url,
        "DAGSTER_DATABASE_URL": settings.dagster_database_url,
        "REDIS_URL": settings.redis_url,
        "DAGSTER_HOME": str(home.dagster),
        "VIDEOMOMENTS_MAX_CONCURRENT_RUNS": str(settings.max_concurrent_runs),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PYTHONSAFEPATH": "1",
    }
    get_settings.cache_clear()
    arguments = [f"--concurrency={concurrency or settings.worker_processes or 1}"]
    arguments += [f"--queues={queues or settings.worker_queues}", *(["--reload"] if reload else [])]
    from videomoments_dagster.defs.workers.worker import main  # in this process, which a supervisor's signals reach

    main(arguments)


def workers(json_output: Annotated[bool, typer.Option("--json", help="One JSON list")] = False) -> None:
    """Show the workers there are now, on all hosts."""
    living = WorkerRegistry(connect(get_settings().redis_url)).living()
    if json_output:
        print_json([asdict(worker) for worker in living])
        return
    if not living:
        messages().print("No workers: runs wait until one comes (`videomoments up`, or `videomoments worker`).")
        return
    table = Table("host", "pid", "queues", "running", box=None, pad_edge=False)
    for each in living:
        table.add_row(each.host, str(each.pid), ", ".join(each.queues), f"{each.running} of {each.processes}")
    console().print(table)
