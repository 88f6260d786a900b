"""How many moments a talk gets, and whether there is enough speech for any. Counts only; lengths are kept elsewhere."""

import math

from videomoments_dagster.moments.moment import FindOptions


def count_limits(options: FindOptions, speech_ms: float, typical_ms: float) -> tuple[int, int]:
    """Fewest and most moments: half and twice what is usual for this much speech, unless the request says otherwise."""
    usual = speech_ms / typical_ms
    fewest = max(1, math.floor(usual / 2)) if options.min_moments is None else options.min_moments
    most = max(fewest, math.ceil(2 * usual)) if options.max_moments is None else options.max_moments
    return min(fewest, most), most
