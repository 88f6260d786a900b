from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from videomoments_dagster.storage.directory import DirectoryStore


def parts(url: str) -> tuple[str, int, str]:
    split = urlsplit(url)
    query = parse_qs(split.query)
    return unquote(split.path.removeprefix("/objects/")), int(query["expires"][0]), query["signature"][0]


def test_a_signed_url_names_the_object_and_verifies(store: DirectoryStore) -> None:
    url = store.signed_url("clips/a/ä b.mp4")
    assert url.startswith("http://127.0.0.1:7005/objects/clips/a/%C3%A4%20b.mp4?expires=")
    name, expires, signature = parts(url)
    assert name == "clips/a/ä b.mp4"
    assert store.verify("GET", name, expires, signature)
    assert store.verify("HEAD", name, expires, signature)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda name, expires, signature: ("GET", name + "x", expires, signature),
        lambda name, expires, signature: ("GET", name, expires + 1, signature),
        lambda name, expires, signature: (
            "GET",
            name,
            expires,
            signature[:-1] + ("0" if signature[-1] != "0" else "1"),
        ),
        lambda name, expires, signature: ("GET", name, expires, ""),
        lambda name, expires, signature: ("GET", name, expires, "ü" * 64),
        lambda name, expires, signature: ("PUT", name, expires, signature),
        lambda name, expires, signature: ("DELETE", name, expires, signature),
    ],
)
def test_a_changed_name_expiry_signature_or_method_is_refused(store: DirectoryStore, tamper) -> None:
    assert not store.verify(*tamper(*parts(store.signed_url("a/b"))))


def test_an_expired_url_is_refused(store: DirectoryStore) -> None:
    assert not store.verify("GET", *parts(store.signed_url("a/b", expires_in_seconds=-1)))
    assert store.verify("GET", *parts(store.signed_url("a/b", expires_in_seconds=5)))


def test_a_put_url_allows_nothing_else(store: DirectoryStore) -> None:
    name, expires, signature = parts(store.signed_url("a/b", method="PUT"))
    assert store.verify("PUT", name, expires, signature)
    assert not store.verify("GET", name, expires, signature)


def test_another_platforms_key_does_not_sign_for_ours(store: DirectoryStore, root) -> None:
    other = DirectoryStore(root, b"another key", "http://127.0.0.1:7005")
    assert not store.verify("GET", *parts(other.signed_url("a/b")))


def test_the_same_url_is_given_for_half_its_life_and_has_half_of_it_left(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = 1_800_000_000  # a multiple of half the store's 600 seconds
    given = []
    for second in (0, 150, 299.9, 300):
        monkeypatch.setattr("time.time", lambda second=second: begin + second)
        given.append(store.signed_url("a/b"))
        name, expires, signature = parts(given[-1])
        assert store.verify("GET", name, expires, signature)
        assert 300 <= expires - (begin + second) <= 600
    assert given[0] == given[1] == given[2] != given[3]
