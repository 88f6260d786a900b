"""A question to a remote model as whoever watches sees it: how long it took, how it ended, and what it cost."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from videomoments_dagster.errors import VideoMomentsError
from videomoments_dagster.models.entry import ModelEntry

_log = logging.getLogger("videomoments.models")


@dataclass(slots=True)
class ModelCall:
    """`outcome` is `answered`, the code of the error that it ended with, or `interrupted`. Tokens as the server counts
    them, None when it does not."""

    model: str
    kind: str
    outcome: str = "interrupted"
    seconds: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def tokens(self) -> dict[str, int]:
        counts = {"prompt": self.prompt_tokens, "completion": self.completion_tokens}
        return {direction: count for direction, count in counts.items() if count}


Observe = Callable[[ModelCall], None]


def unobserved(_call: ModelCall) -> None:
    """For those who do not count."""


@contextmanager
def observed(entry: ModelEntry, observe: Observe) -> Iterator[ModelCall]:
    """The body asks the model of `entry` and notes tokens; the rest is noted here, logged, and given to `observe`."""
    call, began = ModelCall(entry.key, entry.kind), time.monotonic()
    try:
        yield call
        call.outcome = "answered"
    except VideoMomentsError as error:
        call.outcome = error.code
        raise
    except Exception as error:
        call.outcome = type(error).__name__
        raise
    finally:
        call.seconds = round(time.monotonic() - began, 3)
        about = {"model": call.model, "outcome": call.outcome, "seconds": call.seconds}
        tokens = {f"{direction}_tokens": count for direction, count in call.tokens().items()}
        _log.info("%s: %s.", call.model, call.outcome, extra=about | tokens)
        observe(call)
