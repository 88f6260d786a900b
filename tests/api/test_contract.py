"""The OpenAPI document says what the API does, and goes on saying what it once said."""

import hashlib
from collections import Counter
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import CHECKS, load_all_checks

from api.app import create_app
from api.services import Services
from tests import factories
from tests.api import contract
from tests.api.conftest import store_video
from videomoments_dagster.settings import Settings

_EXAMPLES = 6
_MOMENT = "9f86d081884c7d65"
_KNOWN = {"video": "motivation", "moment": _MOMENT}
_ENDLESS = "/api/pipeline/{video}/events"
load_all_checks()
_CHECKS: list[Any] = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]


def test_nothing_that_clients_rely_on_was_removed(app: FastAPI) -> None:
    assert contract.written() - contract.lines(app.openapi()) == set(), "clients may rely on it"


def test_what_is_new_is_written_down(app: FastAPI) -> None:
    new = contract.lines(app.openapi()) - contract.written()
    assert new == set(), "`python -m tests.api.contract` adds it"


_SCHEMA_CHECK = CHECKS.get_one("response_schema_conformance")


@schemathesis.serializer("application/offset+octet-stream")
def _as_bytes(_context: object, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture
def described_api(settings: Settings, services: Services) -> Any:
    """An API of its own, which begins and ends with every question, and a video that has one of everything."""
    with services.database.session() as session:
        video = store_video(services, session, "motivation")
        factories.transcript(session, video)
        moment = factories.moment(session, video, identifier=_MOMENT)
        factories.thumbnail(session, factories.clip(session, moment))
        factories.run(session, video)
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(settings))


@pytest.mark.slow
def test_every_operation_answers_as_it_is_described(described_api: Any) -> None:
    """No defect, no answer, header or body that the document does not know, whatever is asked."""
    asked: Counter[str] = Counter()
    wrong: list[str] = []
    for found in described_api.get_all_operations():
        operation = found.ok()
        try:
            _ask(operation, asked)
        except Exception as error:  # the others are asked all the same, and all that is wrong is told at once
            wrong.append(f"{operation.label}: {error}")
    assert wrong == [], "\n\n".join(wrong)
    assert len(asked) == len(list(described_api.get_all_operations())) and min(asked.values()) >= 1


def _ask(operation: Any, asked: Counter[str]) -> None:
    @given(operation.as_strategy())
    @hypothesis_settings(
        max_examples=_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    def ask(case: schemathesis.Case) -> None:
        _make_known(case)
        asked[operation.label] += 1
        # a stream is a text to OpenAPI 3.1; schemathesis compares each of its events with that
        spared = _SCHEMA_CHECK if case.operation.path == _ENDLESS else None
        case.validate_response(case.call(), checks=[check for check in _CHECKS if check is not spared])

    ask()


def _make_known(case: schemathesis.Case) -> None:
    """Half of what is asked is about things that are there, but for the stream of events, which would not end."""
    given_path = case.path_parameters
    if not given_path or case.operation.path == _ENDLESS:
        return
    digest = hashlib.sha256(repr(sorted(given_path.items())).encode()).digest()
    if digest[0] % 2:
        case.path_parameters = {name: _KNOWN.get(name, value) for name, value in given_path.items()}
