import time
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient

from api.services import Services
from tests.api.conftest import assert_problem

BODY = bytes(range(256)) * 400


@pytest.fixture
def url(services: Services) -> str:
    services.store.put_bytes("videos/ü b/a.mp4", BODY, "video/mp4")
    parts = urlsplit(services.store.signed_url("videos/ü b/a.mp4"))
    return f"{parts.path}?{parts.query}"


def test_an_object_is_served_whole_with_its_type_and_tag(client: TestClient, url: str) -> None:
    response = client.get(url)
    assert (response.status_code, response.content) == (200, BODY)
    assert response.headers["content-type"] == "video/mp4"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["cache-control"] == "private, no-cache"
    head = client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(BODY))
    assert head.headers["etag"] == response.headers["etag"]


@pytest.mark.parametrize(
    ("asked", "content", "told"),
    [
        ("bytes=0-9", BODY[:10], "bytes 0-9/102400"),
        ("bytes=1000-", BODY[1000:], "bytes 1000-102399/102400"),
        ("bytes=-100", BODY[-100:], "bytes 102300-102399/102400"),
        ("bytes=102399-200000", BODY[-1:], "bytes 102399-102399/102400"),
    ],
)
def test_ranges_are_served_as_players_ask(client: TestClient, url: str, asked: str, content: bytes, told: str) -> None:
    response = client.get(url, headers={"Range": asked})
    assert (response.status_code, response.content) == (206, content)
    assert response.headers["content-range"] == told
    assert response.headers["content-type"] == "video/mp4"


def test_several_ranges_are_parts(client: TestClient, url: str) -> None:
    response = client.get(url, headers={"Range": "bytes=0-1,100-101"})
    assert response.status_code == 206
    assert response.headers["content-type"].startswith("multipart/byteranges")
    assert b"bytes 100-101/102400" in response.content


@pytest.mark.parametrize(("asked", "status"), [("bytes=102400-", 416), ("bytes=9-1", 400), ("lines=1-2", 400)])
def test_a_range_that_makes_no_sense_is_a_problem(client: TestClient, url: str, asked: str, status: int) -> None:
    response = client.get(url, headers={"Range": asked})
    assert_problem(response, status, "range_not_satisfiable")
    if status == 416:
        assert response.headers["content-range"] == "bytes */102400"


def test_a_known_tag_is_a_304_and_a_changed_object_ends_a_range(
    client: TestClient, services: Services, url: str
) -> None:
    tag = client.get(url).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = client.get(url, headers={"If-None-Match": known})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", tag)
    headers = {"Range": "bytes=0-3", "If-Range": tag}
    assert client.get(url, headers=headers).status_code == 206
    services.store.put_bytes("videos/ü b/a.mp4", b"changed", "video/mp4")
    assert client.get(url, headers=headers).content == b"changed"
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("a.mp4", "b.mp4"),
        lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
        lambda url: url.replace("expires=", "expires=9"),
        lambda url: url.replace("signature=", "signature=é"),
    ],
)
def test_a_changed_url_is_refused(client: TestClient, url: str, change) -> None:
    assert_problem(client.get(change(url)), 403, "signature_refused")


def test_an_unsigned_or_expired_url_is_refused(client: TestClient, services: Services, url: str) -> None:
    assert_problem(client.get(url.split("?")[0]), 422, "invalid_input")
    parts = urlsplit(services.store.signed_url("videos/ü b/a.mp4", expires_in_seconds=-1))
    assert_problem(client.get(f"{parts.path}?{parts.query}"), 403, "signature_refused")
    assert_problem(client.get(url + "&download=1"), 422, "invalid_input")


def test_a_signed_get_does_not_allow_other_methods(client: TestClient, url: str) -> None:
    for method in ("PUT", "POST", "DELETE"):
        assert_problem(client.request(method, url), 405, "method_not_allowed")


def test_a_gone_object_is_a_404(client: TestClient, services: Services, url: str) -> None:
    services.store.delete("videos/ü b/a.mp4")
    assert_problem(client.get(url), 404, "not_found")


@pytest.mark.parametrize("name", ["../secret", "%2e%2e/secret", "/etc/passwd", "%2fetc/passwd", ".store/lock", "a%00b"])
def test_a_path_out_of_the_store_is_never_read(client: TestClient, services: Services, home, name: str) -> None:
    (home / "secret").write_text("what nobody may read")
    expires = int(time.time()) + 60
    response = client.get(f"/objects/{name}?expires={expires}&signature={'0' * 64}")
    assert response.status_code in {403, 404}
    assert "nobody may read" not in response.text
    assert client.get(name if name.startswith("/") else f"/{name}").status_code == 404
