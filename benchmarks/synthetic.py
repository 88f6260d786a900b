"""Fills an instance with videos that were never processed: copies of one real run's rows under other names.

A copy has its partition, its request, its finished run with all tags, and the materializations of its eight assets,
a minute older than the one before. Without checks, logs, rows of the product and files, which no sensor looks at.
"""

from contextlib import closing

import dagster as dg

from videomoments_dagster.defs.partitions import VIDEOS
from videomoments_dagster.defs.policies import PARTITION_TAG, REQUEST_TAG
from videomoments_dagster.settings import get_settings
from videomoments_dagster.stack.postgres import connect

_BATCH = 5_000

_NEW = """
CREATE TEMP TABLE new AS
SELECT n, md5('run' || n)::uuid::text AS run, md5('request' || n)::uuid::text AS request, 'synthetic-' || n AS video,
       n * interval '1 minute' AS age
FROM generate_series(%(first)s, %(last)s) AS n
"""
_RENAME = """
CREATE FUNCTION pg_temp.rename(text, new) RETURNS text LANGUAGE sql
RETURN replace(replace(replace($1, %(run)s, $2.run), %(request)s, $2.request), %(video)s, $2.video)
"""
_RUNS = """
INSERT INTO runs (run_id, snapshot_id, pipeline_name, mode, status, run_body, partition, partition_set,
                  create_timestamp, update_timestamp, start_time, end_time)
SELECT run, snapshot_id, pipeline_name, mode, status, pg_temp.rename(run_body, new), video, partition_set,
       create_timestamp - age, update_timestamp - age,
       start_time - extract(epoch FROM age), end_time - extract(epoch FROM age)
FROM runs, new WHERE run_id = %(run)s
"""
_TAGS = """
INSERT INTO run_tags (run_id, key, value)
SELECT run, key, pg_temp.rename(value, new) FROM new, run_tags WHERE run_id = %(run)s
"""
_EVENTS = """
INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
SELECT run, pg_temp.rename(event, new), dagster_event_type, timestamp - age, step_key, asset_key, video
FROM new, event_logs WHERE run_id = %(run)s AND dagster_event_type = 'ASSET_MATERIALIZATION'
"""
_REQUESTS = """
INSERT INTO pipeline_requests (request_id, video_identifier, source_url, pipeline_type, config, state, requested_at)
SELECT md5('request' || n)::uuid::text, 'synthetic-' || n, 'https://example.com/' || n || '.mp4', 'full', '{}',
       'finished', now() - n * interval '1 minute'
FROM generate_series(%(first)s, %(last)s) AS n
"""


def fill(instance: dg.DagsterInstance, template: dg.DagsterRun, first: int, last: int) -> None:
    """Add the synthetic videos `first` to `last`, copies of the finished run `template`."""
    values = {"run": template.run_id, "request": template.tags[REQUEST_TAG], "video": template.tags[PARTITION_TAG]}
    values |= {"first": first, "last": last}
    for start in range(first, last + 1, _BATCH):
        end = min(start + _BATCH - 1, last)
        instance.add_dynamic_partitions(VIDEOS, [f"synthetic-{n}" for n in range(start, end + 1)])
    settings = get_settings()
    copies = (_NEW, _RENAME, _RUNS, _TAGS, _EVENTS)
    for url, statements in ((settings.dagster_database_url, copies), (settings.database_url, (_REQUESTS,))):
        with closing(connect(url)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement, values)
            cursor.execute("VACUUM ANALYZE")  # what autovacuum does within minutes
