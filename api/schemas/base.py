"""What all shapes share. Input refuses unknown keys; output has no defaults, so that every key is always there."""

from pydantic import BaseModel, ConfigDict


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Output(BaseModel):
    model_config = ConfigDict(frozen=True)


class SignedUrl(Output):
    """A URL anyone can open until it expires."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "url": "https://storage.googleapis.com/bucket/clips/motivation/9f86.mp4?X-Goog-Signature=…",
                "expires_in_seconds": 3600,
            }
        }
    )

    url: str
    expires_in_seconds: int
