"""What the launcher and the workers must agree on: the broker, how messages are delivered, and the queues' names.

The message only says that a run can start. Whether a worker executes it is decided by its lease, so a message may
arrive twice or never (see launcher.py), and is acknowledged as soon as a process has it.
"""

from typing import Any
from urllib.parse import parse_qsl, urlencode

QUEUE_TAG = "dagster-celery/queue"
DEFAULT_QUEUE = "video"
VISIBILITY_SECONDS = 30
"""A message that was fetched but reached no process, because its worker died, is delivered again after so long."""


def celery_arguments(redis_url: str) -> dict[str, Any]:
    """Arguments for dagster_celery.make_app, and for its launcher. The result backend stays unused: it can't tell
    whether a worker lives."""
    return {"broker": broker_url(redis_url), "backend": "disabled://", "config_source": _settings()}


def broker_url(redis_url: str) -> str:
    """As Celery writes it: a Unix socket has another scheme there, and its database another name. Without being told,
    Celery would take any certificate."""
    scheme, _, rest = redis_url.partition("://")
    address, _, query = rest.partition("?")
    options = dict(parse_qsl(query))
    if scheme == "unix":
        scheme, options["virtual_host"] = "redis+socket", options.pop("db", "0")
    elif scheme == "rediss":
        options.setdefault("ssl_cert_reqs", "required")
    return f"{scheme}://{address}{'?' if options else ''}{urlencode(options)}"


def _settings() -> dict[str, Any]:
    return {
        "task_default_queue": DEFAULT_QUEUE,
        "task_ignore_result": True,
        "task_acks_late": False,
        # Without this a worker would fetch as many runs ahead as it executes, and keep them from idle workers.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # It listens on a connection of its own, without a timeout: a worker that was cut off would listen for ever.
        "worker_enable_remote_control": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,  # a Redis that is full, or fails over, answers with errors
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,  # by default only every tenth time: after 100 s
            "socket_connect_timeout": 5,
            "socket_timeout": 15,
            "socket_keepalive": True,
            "health_check_interval": 5,
        },
        "task_publish_retry": True,
        "task_publish_retry_policy": {
            "max_retries": 3,  # no more: the queue waits meanwhile, and the reconcile sensor publishes it again
            "interval_start": 0,
            "interval_step": 0.5,
            "interval_max": 1,
        },
    }
