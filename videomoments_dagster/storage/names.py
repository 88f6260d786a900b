"""Deterministic object names: everything of a video is found, and deleted, by its identifier."""


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


def upload(video: str, request: str) -> str:
    """A submitted file until the video asset has made an object of the video of it."""
    return f"uploads/{video}/{request}"


def prefixes(video: str) -> tuple[str, ...]:
    """Every prefix under which a video has objects."""
    return tuple(f"{room}/{video}/" for room in ("videos", "audio", "keyframes", "clips", "thumbnails", "uploads"))
