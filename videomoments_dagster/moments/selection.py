"""How many moments a talk gets, and whether there is enough speech for any. Counts only; lengths are kept elsewhere."""

import math

from videomoments_dagster.moments.moment import FindOptions


def count_limits(options: FindOptions, speech_ms: float, typical_ms: float) -> tuple[int, int]:
    """Fewest and most moments: half and twice what is usual for this much speech, unless the request says otherwise."""
    fewest = max(1, math.floor(speech_ms / max(typical_ms, options.min_length_ms) / 2))
    most = max(fewest, math.ceil(2 * speech_ms / typical_ms))
    if options.min_moments is not None:
        fewest, most = options.min_moments, max(options.min_moments, most)
    if options.max_moments is not None:
        fewest, most = min(fewest, options.max_moments), options.max_moments
    return fewest, most
