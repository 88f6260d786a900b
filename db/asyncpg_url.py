"""A database URL as asyncpg takes it: the same server, database and role that libpq makes of it for psycopg2."""

import ssl
from typing import Any
from urllib.parse import quote, urlencode

from sqlalchemy import URL
from sqlalchemy.dialects.postgresql import psycopg2
from sqlalchemy.exc import ArgumentError

from videomoments_dagster.errors import InvalidConfig

_SSL = {
    "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version",
}  # fmt: skip
_OTHERS = {"passfile", "krbsrvname", "gsslib", "target_session_attrs", "service"}
_SERVER_SETTINGS = {"application_name", "options"}
_ARGUMENTS = {"user": "user", "password": "password", "dbname": "database"}
_OF_CLIENT = {
    "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
    "fallback_application_name", "client_encoding",
}  # fmt: skip
"""Of libpq's parameters, those that this driver needs not know: it has its own ways, or there is one value only."""


def connect_arguments(address: URL) -> dict[str, Any]:
    """What the URL says, as asyncpg takes it: the same that libpq makes of it, where the query overrides what stands
    before. Raises InvalidConfig for what asyncpg does not know."""
    try:
        found: dict[str, Any] = psycopg2.dialect().create_connect_args(address)[1]
    except ArgumentError as error:
        raise InvalidConfig(f"The database URL can't be used: {error}.", hint="Mend DATABASE_URL.") from None
    unknown = found.keys() - _SSL - _OTHERS - _SERVER_SETTINGS - _OF_CLIENT - _ARGUMENTS.keys() - {"host", "port"}
    twice = {name for name, value in found.items() if isinstance(value, (tuple, list))}
    if bad := sorted(unknown | twice):
        raise InvalidConfig(
            f"The database URL has {bad[0]!r}, which the API can't do{' twice' if bad[0] in twice else ''}.",
            hint="Leave it out of DATABASE_URL.",
        )
    kept = {name: str(value) for name, value in found.items() if name in _SSL | _OTHERS}
    arguments: dict[str, Any] = {"dsn": None, "server_settings": {"application_name": "videomoments"}}
    if kept.get("sslrootcert") == "system":  # what the machine trusts, and nothing less
        arguments["ssl"] = ssl.create_default_context()
        kept = {name: value for name, value in kept.items() if name not in _SSL}
    if kept:
        arguments["dsn"] = f"postgresql://?{urlencode(kept, quote_via=quote)}"
    arguments |= {_ARGUMENTS[name]: value for name, value in found.items() if name in _ARGUMENTS}
    arguments["server_settings"] |= {name: str(value) for name, value in found.items() if name in _SERVER_SETTINGS}
    if host := found.get("host"):
        arguments["host"] = str(host).split(",")
        ports = str(found.get("port", "")).split(",")
        arguments["port"] = [int(port or 5432) for port in ports]
    elif port := found.get("port"):
        arguments["port"] = int(port)
    return arguments
