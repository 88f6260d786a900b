"""Files that come by forms: how many at a time, and the disk that they may fill."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api import resumable
from api.receiving import to_the_end
from api.services import Services
from videomoments_dagster.errors import RateLimited

MOST_AT_ONCE = 20
"""In each process of the API."""
STEP_BYTES = 64 * 1024**2
"""After so much more, it is asked again whether there is room: others fill the disk, too."""


@dataclass(slots=True, eq=False)
class _Form:
    length: int
    come: int = 0


_forms: list[_Form] = []


@asynccontextmanager
async def room(services: Services, announced: int | None) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """For one form of `announced` bytes, if that is known. What it gives is to be awaited with how many bytes have come
    so far, and raises NoRoomForUpload. Raises that, and RateLimited."""
    if len(_forms) >= MOST_AT_ONCE:
        raise RateLimited(f"{MOST_AT_ONCE} files come by forms just now.", retry_after_seconds=10)
    form = _Form(min(announced or STEP_BYTES, services.settings.max_download_bytes))
    checked = 0

    async def came(received: int) -> None:
        nonlocal checked
        form.come = received
        if received - checked < STEP_BYTES:
            return
        checked = received
        form.length = max(form.length, received + (STEP_BYTES if announced is None else 0))
        await to_the_end(_make_room, services)

    _forms.append(form)
    try:
        await to_the_end(_make_room, services)
        yield came
    finally:
        _forms.remove(form)


def _make_room(services: Services) -> None:
    length = sum(form.length for form in _forms)
    resumable.make_room(services, length, length - sum(form.come for form in _forms))
