"""Videos drawn once a session, and the settings that the child processes are started with."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.media.make import Drawing, draw
from videomoments_dagster.settings import get_settings


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> Path:
    return home


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets settings by their environment names, for this test only."""

    def set_all(**variables: object) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"VIDEOMOMENTS_{name.upper()}", str(value))
        get_settings.cache_clear()

    yield set_all
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Draws a video under a name, once: `drawn("odd.mp4", gop=50)`."""
    directory = tmp_path_factory.mktemp("videos")
    made: dict[tuple[str, Drawing], Path] = {}

    def make(name: str = "talk.mp4", **properties: object) -> Path:
        drawing = Drawing(**properties)  # pyright: ignore[reportArgumentType]  # the names are the fields'
        if (name, drawing) not in made:
            made[name, drawing] = draw(directory / f"{len(made)}-{name}", drawing)
        return made[name, drawing]

    return make
