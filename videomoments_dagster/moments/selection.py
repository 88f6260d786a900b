"""How many moments a talk gets, and whether there is enough speech for any. Counts only; lengths are kept elsewhere."""

import math
import re
from collections.abc import Sequence

from videomoments_dagster.moments.moment import FindOptions
from videomoments_dagster.moments.text import tokens
from videomoments_dagster.moments.transcript import Sentence

_FEWEST_WORDS = 20


_CHARACTERS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Thai, Lao, Burmese, Khmer, kana and Han are written without spaces: about two characters a word."""


def too_little_said(sentences: Sequence[Sentence]) -> str:
    """Why there can be no moments in so little speech; empty when there is enough."""
    words = sum(len(tokens(_CHARACTERS.sub(" ", s.text))) + len(_CHARACTERS.findall(s.text)) / 2 for s in sentences)
    if words >= _FEWEST_WORDS:
        return ""
    return f"Too few words ({words:g}) are said to divide into topics." if words else "No speech was heard."


def count_limits(options: FindOptions, speech_ms: float, typical_ms: float) -> tuple[int, int]:
    """Fewest and most moments: half and twice what is usual for this much speech, unless the request says otherwise.

    Lengths asked for count as usual where they rule out what is: a talk has more moments when these must be short.
    """
    fewest = max(1, math.floor(speech_ms / max(typical_ms, options.min_length_ms) / 2))
    most = max(fewest, math.ceil(2 * speech_ms / min(typical_ms, options.max_length_ms)))
    if options.min_moments is not None:
        fewest, most = options.min_moments, max(options.min_moments, most)
    if options.max_moments is not None:
        fewest, most = min(fewest, options.max_moments), options.max_moments
    return fewest, most
