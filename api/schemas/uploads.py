"""An upload that can be gone on with, as its client asks for it."""

from datetime import datetime

from pydantic import ConfigDict

from api.resumable import ResumableUpload
from api.schemas.base import Output
from api.schemas.videos import Submitted, submitted


class Upload(Output):
    """`offset` of `length` bytes are there. `submitted` is null until the whole file is, and is a request."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "7d1f6d3e-5f0a-4c57-9f0e-0a8f4c1b2d3e",
                "offset": 52428800,
                "length": 73411220,
                "expires_at": "2026-01-02T12:00:00Z",
                "submitted": None,
            }
        }
    )

    id: str
    offset: int
    length: int
    expires_at: datetime
    submitted: Submitted | None


def upload(found: ResumableUpload) -> Upload:
    return Upload.model_construct(
        id=found.upload_id,
        offset=found.offset,
        length=found.length,
        expires_at=found.expires_at,
        submitted=submitted(found.submitted) if found.submitted else None,
    )
