"""Dagster's run, event and schedule storages on one small connection pool. The only place that touches their insides.

Dagster opens a connection for every query (NullPool: ~550 a minute when idle, and four times the cost of a warm run;
research/dagster.md section 3.5). There is no setting for it in Dagster 1.13, so the engines are replaced after
construction. tests/defs/test_instance_storage.py fails loudly when Dagster changes under this; drop the module once
Dagster's storages take a pool.
"""

import os
import select
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import sqlalchemy
from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config
from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError

from db.session import connect_arguments, parse_url
from videomoments_dagster.settings import with_driver

POOL_SIZE = 3
MAX_OVERFLOW = 17  # the webserver and the sensor threads burst; what is above POOL_SIZE is closed after use
_QUESTIONS = (
    "_has_asset_key_col_on_connection",
    "_has_instigators_table",
    "has_instigators_table",
    "has_secondary_index_table",
    "has_built_index",
    "has_backfill_tags_table",
    "has_run_stats_index_cols",
)
"""Dagster's, about its tables, columns and finished migrations."""


class PooledPostgresStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage whose three storages share one pool: last in first out, dead connections replaced.

    Every instance of a process shares it too: a worker makes an instance for each run. Only the first looks whether
    Dagster's tables are there.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        url = with_driver(postgres_url)
        super().__init__(url, should_autocreate_tables and url not in _engines, inst_data=inst_data)
        self.engine = _engine(url)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = self.engine
            for question in _QUESTIONS:
                if hasattr(storage, question):
                    setattr(storage, question, _remembering(storage, question, url))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: PostgresStorageConfig
    ) -> "PooledPostgresStorage":
        values = cast(dict[str, Any], config_value)
        return cls(
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=values.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )


_engines: dict[str, sqlalchemy.Engine] = {}
_there: dict[str, set[tuple[str, ...]]] = {}
_making = threading.Lock()


def _engine(url: str) -> sqlalchemy.Engine:
    with _making:
        if url not in _engines:
            _engines[url] = sqlalchemy.create_engine(
                url,
                isolation_level="AUTOCOMMIT",
                connect_args={**connect_arguments(parse_url(url)), "application_name": "videomoments-dagster"},
                pool_size=POOL_SIZE,
                max_overflow=MAX_OVERFLOW,
                pool_use_lifo=True,
                hide_parameters=True,
                future=True,
            )
            event.listen(_engines[url], "checkout", _replace_if_cut)
        return _engines[url]


def _replace_if_cut(connection: Any, _record: object, _proxy: object) -> None:
    """What `pool_pre_ping` is for, without its round trip: a run takes a connection some 400 times. An idle connection
    has nothing to read unless the server ended it."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(0):
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as error:  # whatever the driver makes of a dead connection
        raise InvalidatePoolError from error


def _remembering(storage: Any, question: str, url: str) -> Callable[..., bool]:
    """What is there stays. Dagster asks some 50 times a run whether one of its tables has a column, and each sensor's
    tick lists all of its tables several times: half of what an idle daemon asked PostgreSQL."""
    ask, there = getattr(storage, question), _there.setdefault(url, set())

    def has(*arguments: Any) -> bool:
        names = (type(storage).__name__, question, *(each for each in arguments if isinstance(each, str)))
        if names not in there and ask(*arguments):
            there.add(names)
        return names in there

    return has


def leave_connections(*, close: bool = True) -> None:
    """Let go of every connection; the next query opens one. `close` is not for a forked process: those that it
    inherited are its parent's."""
    for engine in _engines.values():
        engine.dispose(close=close)


os.register_at_fork(after_in_child=partial(leave_connections, close=False))
