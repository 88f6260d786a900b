"""The one error tree. Every failure a user can meet is one of these; anything else is a defect of ours.

VideoMomentsError
├── InvalidInput            422  what was asked for can't be understood
│   ├── InvalidIdentifier   422
│   ├── InvalidConfig       422
│   └── InvalidTranscript   422
├── NotFound                404
├── Unauthorized            401  no API key, or one that is not, or no longer, good
├── Forbidden               403  the API key's scope is too small
├── PreconditionFailed      412  it was changed since it was read
├── TooLarge                413  the body is larger than allowed
├── RateLimited             429  too many requests                     (retryable)
├── Conflict                409  true of the request, false of the state it meets
│   └── VideoBusy           409  somebody else decides about the same video  (retryable)
├── SourceError                  the video can't be fetched
│   ├── AddressRefused           not a public address, or not http(s)
│   ├── SourceNotFound           the server says 4xx
│   ├── SourceUnavailable        timeouts, resets, 5xx                  (retryable)
│   ├── SourceIncomplete         fewer bytes than promised              (retryable)
│   └── SourceTooLarge
├── MediaError                   the bytes are there, but can't be used
│   ├── NotAVideo
│   ├── NoAudio                  the video has no audio track
│   ├── MediaDamaged             truncated, or broken in the middle
│   ├── MediaTimeout             the child process hit its time limit
│   ├── MediaCrashed             the child process died (signal, memory limit)
│       └── MediaKilled          somebody killed it, most likely the kernel (retryable)
├── StorageError
│   ├── ObjectMissing            a row promises an object that is not there
│   ├── ObjectMismatch           size or MD5 differs after upload       (retryable)
│   └── StorageUnavailable  503                                         (retryable)
├── ModelError              502  a speech or chat model can't be used
│   ├── ModelNotConfigured  422  its entry says neither ssh_host nor base_url
│   ├── ModelUnavailable    503  no answer, or 429 and 5xx to the end   (retryable)
│   ├── ModelRefused             the server answers 4xx
│   ├── ModelAnswerInvalid       an answer that makes no sense, twice
│   ├── AsrLowYield              far fewer words than were spoken
│   ├── ClockUntrusted           the clock check failed: its times are not used
│   ├── TunnelUnavailable   503  the SSH host does not answer           (retryable)
│   └── TunnelRefused            SSH says no, and goes on saying it
│       ├── HostKeyRefused       unknown or changed host key
│       ├── LoginRefused         no key that the host accepts
│       ├── ForwardRefused       the host forbids forwarding
│       └── LocalPortTaken       somebody else listens there
├── StageInputMissing            an earlier stage has not run for this video
├── Cancelled                    somebody ended the run
├── DiskFull                                                            (retryable)
└── ServiceUnavailable      503  PostgreSQL, Redis or the platform does not answer (retryable)
"""

import errno
from typing import Any

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The `errno` of an OSError that means DiskFull."""


class VideoMomentsError(Exception):
    """A failure with a name: `code` for programs, `message` and `hint` for people.

    `status` is the HTTP status the API answers with, `title` its one-line summary (RFC 9457), and `retryable`
    says whether the same attempt may succeed later without anyone changing anything.
    """

    code = "internal_error"
    title = "Internal error"
    status = 500
    retryable = False
    hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint

    def as_dict(self, stage: str | None = None) -> dict[str, Any]:
        """`{stage, code, message, hint, retryable}`: the shape shown in status, history and at the terminal."""
        return {
            "stage": stage,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[VideoMomentsError], message: str, hint: str) -> VideoMomentsError:
    return kind(message, hint=hint)


class InvalidInput(VideoMomentsError):
    code, title, status = "invalid_input", "The input is not valid", 422


class InvalidIdentifier(InvalidInput):
    code, title = "invalid_identifier", "Not a valid video identifier"
    hint = "Use 1 to 100 letters, digits, '-' and '_', starting with a letter or a digit."


class InvalidConfig(InvalidInput):
    code, title = "invalid_config", "Not a valid configuration"


class InvalidTranscript(InvalidInput):
    code, title = "invalid_transcript", "Not a valid transcript"


class NotFound(VideoMomentsError):
    code, title, status = "not_found", "Not found", 404


class Unauthorized(VideoMomentsError):
    code, title, status = "unauthorized", "An API key is needed", 401
    hint = "Send `Authorization: Bearer KEY`; `videomoments keys create` makes one."


class Forbidden(VideoMomentsError):
    code, title, status = "forbidden", "The API key may not do this", 403


class PreconditionFailed(VideoMomentsError):
    code, title, status = "precondition_failed", "It was changed since it was read", 412
    hint = "Read it again, and send the ETag of what you read."


class TooLarge(VideoMomentsError):
    code, title, status = "too_large", "The body is larger than allowed", 413


class RateLimited(VideoMomentsError):
    """`retry_after_seconds`: when the next request is let through."""

    code, title, status, retryable = "rate_limited", "Too many requests", 429, True

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or f"Ask again in {retry_after_seconds:.0f} s.")
        self.retry_after_seconds = retry_after_seconds


class Conflict(VideoMomentsError):
    code, title, status = "conflict", "Conflicts with the present state", 409


class VideoBusy(Conflict):
    code, title, retryable = "video_busy", "The video is being changed", True
    hint = "Try again in a moment: it is being deleted, or submitted, just now."


class SourceError(VideoMomentsError):
    code, title, status = "source_error", "The video can't be fetched", 422


class AddressRefused(SourceError):
    code, title = "address_refused", "The address is not allowed"
    hint = "Only http(s) URLs on public addresses are fetched; VIDEOMOMENTS_ALLOW_PRIVATE_URLS=1 allows private ones."


class SourceNotFound(SourceError):
    code, title = "source_not_found", "The server does not have the video"
    hint = "Open the URL in a browser; if it plays there only after signing in, download it and submit the file."


class SourceUnavailable(SourceError):
    code, title, retryable = "source_unavailable", "The video's server does not answer", True
    hint = "It is tried again by itself; if it goes on, check the server."


class SourceIncomplete(SourceError):
    code, title, retryable = "source_incomplete", "The download ended early", True
    hint = "It is tried again by itself."


class SourceTooLarge(SourceError):
    code, title = "source_too_large", "The video is larger than allowed"
    hint = "Raise VIDEOMOMENTS_MAX_DOWNLOAD_BYTES, or submit a smaller rendition."


class MediaError(VideoMomentsError):
    code, title, status = "media_error", "The media can't be used", 422


class NotAVideo(MediaError):
    code, title = "not_a_video", "The file is not a video"
    hint = "Submit the address of the media file itself (MP4, WebM, MKV, MOV), not of a page that shows it."


class NoAudio(MediaError):
    code, title = "no_audio", "The video has no audio track"
    hint = "Moments are found in speech; add them by hand, or submit a rendition with sound."


class MediaDamaged(MediaError):
    code, title = "media_damaged", "The file is damaged"
    hint = "Play it to its end in a player; export or download it again."


class MediaTimeout(MediaError):
    code, title = "media_timeout", "Working on the media took too long"
    hint = "Raise VIDEOMOMENTS_MEDIA_TIMEOUT_SECONDS if the video is very long."


class MediaCrashed(MediaError):
    code, title = "media_crashed", "The decoder crashed on this file"
    hint = "Re-encode the file; raise VIDEOMOMENTS_MEDIA_MEMORY_BYTES if it is very large in pixels."


class MediaKilled(MediaCrashed):
    code, title, retryable = "media_killed", "The decoder was killed", True
    hint = "This host probably ran out of memory: lower VIDEOMOMENTS_WORKER_PROCESSES or VIDEOMOMENTS_CLIP_PROCESSES."


class StorageError(VideoMomentsError):
    code, title = "storage_error", "The object store failed"


class ObjectMissing(StorageError):
    code, title = "object_missing", "A stored object is gone"
    hint = "Materialize the asset that makes it again."


class ObjectMismatch(StorageError):
    code, title, retryable = "object_mismatch", "A stored object differs from what was sent", True


class StorageUnavailable(StorageError):
    code, title, status, retryable = "storage_unavailable", "The object store does not answer", 503, True


class ModelError(VideoMomentsError):
    code, title, status = "model_error", "A model can't be used", 502


class ModelNotConfigured(ModelError):
    code, title, status = "model_not_configured", "The model is not configured", 422
    hint = (
        "Say where it is: `videomoments models set KEY ssh_host=...` or `base_url=...`, or set VIDEOMOMENTS_SSH_HOST."
    )


class ModelUnavailable(ModelError):
    code, title, status, retryable = "model_unavailable", "The model does not answer", 503, True
    hint = "It is tried again by itself; `videomoments models check KEY` says what is wrong."


class ModelRefused(ModelError):
    code, title = "model_refused", "The model's server refuses the request"
    hint = "Check the entry's endpoint, model_name and API key: `videomoments models list`."


class ModelAnswerInvalid(ModelError):
    code, title = "model_answer_invalid", "The model's answer makes no sense"
    hint = "It was asked again already: choose another model for this stage, or give it a fallback."


class AsrLowYield(ModelError):
    code, title = "asr_low_yield", "The recognizer heard far less than was spoken"
    hint = "Check its server with `videomoments models check KEY`, or choose another speech model."


class ClockUntrusted(ModelError):
    code, title = "clock_untrusted", "The model's clock is wrong"
    hint = (
        "Mend its server and run `videomoments models check KEY`; VIDEOMOMENTS_CLOCK_CHECK=warn uses it all the same."
    )


class TunnelUnavailable(ModelError):
    code, title, status, retryable = "tunnel_unavailable", "The SSH host does not answer", 503, True
    hint = "It is tried again by itself; try `ssh` to that host from this one."


class TunnelRefused(ModelError):
    code, title = "tunnel_refused", "The SSH tunnel is refused"


class HostKeyRefused(TunnelRefused):
    code, title = "host_key_refused", "The SSH host's key is not the known one"


class LoginRefused(TunnelRefused):
    code, title = "login_refused", "The SSH host does not accept our key"
    hint = "Set ssh_user and ssh_key_file of the model, or VIDEOMOMENTS_SSH_USER and VIDEOMOMENTS_SSH_KEY_FILE."


class ForwardRefused(TunnelRefused):
    code, title = "forward_refused", "The SSH host does not forward"
    hint = "Its sshd needs AllowTcpForwarding, and PermitOpen if set must name the model's host and port."


class LocalPortTaken(TunnelRefused):
    code, title = "local_port_taken", "The tunnel's local port is taken"
    hint = "Set local_port=0: any free port will do."


class StageInputMissing(VideoMomentsError):
    code, title, status = "stage_input_missing", "An earlier stage has not run", 409
    hint = "Materialize the upstream asset for this video first, or start the whole pipeline."


class Cancelled(VideoMomentsError):
    code, title, status = "cancelled", "The run was cancelled", 409


class DiskFull(VideoMomentsError):
    code, title, status, retryable = "disk_full", "The disk is full", 503, True
    hint = "Free space where VIDEOMOMENTS_HOME lies, then start the video again."


class ServiceUnavailable(VideoMomentsError):
    code, title, status, retryable = "service_unavailable", "A service does not answer", 503, True
    hint = "Run `videomoments doctor`; start the platform with `videomoments up`."
