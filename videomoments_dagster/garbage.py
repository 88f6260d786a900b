"""How often Python looks for garbage in a process: seldom while it imports, and as usual once it works."""

import gc

_PYTHONS_THRESHOLDS = (700, 10, 10)
_SELDOM_THRESHOLDS = (50_000, 20, 20)


def seldom() -> None:
    """For a start: an import as large as Dagster's makes some hundred thousand objects that stay."""
    gc.set_threshold(*_SELDOM_THRESHOLDS)


def as_usual() -> None:
    """From here on, whoever started this process: a cycle may hold a refused body, or a decoded sound, and hundreds of
    them are hundreds of megabytes. What was loaded stays, and is not looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_PYTHONS_THRESHOLDS)
