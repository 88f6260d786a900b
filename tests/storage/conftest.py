import hashlib
from base64 import b64encode
from pathlib import Path

import pytest

from videomoments_dagster.storage.directory import DirectoryStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root, b"a test key", "http://127.0.0.1:7005/", ttl_seconds=600)


def md5_of(data: bytes) -> str:
    return b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
