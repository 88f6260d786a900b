"""Deterministic object names: everything of a video is found, and deleted, by its identifier."""

import re

from videomoments_dagster.errors import StorageError

ROOMS = ("videos", "audio", "keyframes", "clips", "thumbnails", "answers", "uploads")
"""The first part of the names of a video's objects; its identifier is the second."""
_NAME_BYTES, _PART_BYTES = 1024, 255
_PLAIN = re.compile(r"(?:[A-Za-z0-9_][\w.-]*/)*[A-Za-z0-9_][\w.-]*", re.ASCII)


def video(video: str, extension: str) -> str:
    """`extension` without a dot: mp4, webm, mkv, mov."""
    return f"videos/{video}/{video}.{extension}"


def audio(video: str) -> str:
    return f"audio/{video}/{video}.wav"


def keyframes(video: str) -> str:
    return f"keyframes/{video}/{video}.json"


def clip(video: str, moment: str) -> str:
    return f"clips/{video}/{moment}.mp4"


def video_thumbnail(video: str) -> str:
    return f"thumbnails/{video}/{video}.jpg"


def clip_thumbnail(video: str, moment: str) -> str:
    return f"thumbnails/{video}/clips/{moment}.jpg"


def answers(video: str, asset: str) -> str:
    """The raw answers that the models gave for an asset of the video, as moments/archive.py writes them."""
    return f"answers/{video}/{asset}.json.gz"


def unfinished_answers(video: str, asset: str) -> str:
    """The prefix of what models answered for an asset whose stage has not finished."""
    return f"answers/{video}/unfinished/{asset}/"


def upload(video: str, request: str) -> str:
    """A submitted file until the video asset has made an object of the video of it."""
    return f"uploads/{video}/{request}"


def shared(name: str) -> str:
    """A file that belongs to no video, such as the clip that checks models' clocks."""
    return f"shared/{name}"


def prefixes(video: str) -> tuple[str, ...]:
    """Every prefix under which a video has objects."""
    return tuple(f"{room}/{video}/" for room in ROOMS)


def is_plain(name: str) -> bool:
    """Whether it is an object's name at first sight, and written in URLs as it is: nearly all, and lists have many."""
    return len(name) <= _PART_BYTES and _PLAIN.fullmatch(name) is not None


def check_object_name(name: str) -> str:
    """Return `name` unchanged, or raise StorageError: it must be a relative path that can't leave the store.

    At most 1024 bytes (the limit of GCS), 255 for each part (the limit of file systems).
    """
    if is_plain(name):
        return name
    parts = name.split("/")
    if (
        "\0" in name
        or "\\" in name
        or any(part in {"", ".", ".."} for part in parts)
        or len(name.encode(errors="replace")) > _NAME_BYTES
        or any(len(part.encode(errors="replace")) > _PART_BYTES for part in parts)
    ):
        raise StorageError(
            f"{name[:120]!r} can't name an object.",
            hint="Object names are relative paths of at most 1024 bytes without empty parts, '.', '..', '\\' and NUL.",
        )
    return name
