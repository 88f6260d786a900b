"""How a model's clock runs, from pairs of a true time and the time the model gives; and whether that is good enough.

Numbers in, a judgement in words out: how the pairs are come by is told in calibration_speech.py and
calibration_vision.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations, pairwise
from statistics import median

from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.registry import Verdict

_LEAST_APART_SECONDS = 20.0  # nearer pairs tell more about single errors than about the clock
_SCALED = 0.005  # from here on "scaled" says more than seconds an hour
_LEAST_WINDOW = 8.0
_MOST_WINDOWS = 60


@dataclass(frozen=True, slots=True)
class Pair:
    """Pairs with the same `place` belong together: one of them that is wrong by itself does not count."""

    place: int
    true_seconds: float
    given_seconds: float


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a trusted clock stays within. `outliers`: how many places may be off by more than `residual_seconds`."""

    offset_seconds: float
    drift_seconds_an_hour: float
    residual_seconds: float
    outliers: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """given = offset + scale * true + residual. `residuals` holds (true seconds, residual) of each place, in order."""

    offset_seconds: float
    scale: float
    residuals: tuple[tuple[float, float], ...]

    @property
    def drift_seconds_an_hour(self) -> float:
        return (self.scale - 1) * 3600

    def holds(self, allowed: Tolerance) -> bool:
        """Whether the times lie on a line at all, so that its offset and drift say something."""
        most = allowed.residual_seconds * max(1.0, abs(self.scale))  # errors grow with the times
        return sum(abs(residual) > most for _, residual in self.residuals) <= allowed.outliers


def fit(pairs: Sequence[Pair]) -> Fit:
    """A line through the pairs by Theil and Sen: up to a quarter of them may be wrong by any amount.

    Raises ValueError when all of them lie close together.
    """
    slopes = [
        (b.given_seconds - a.given_seconds) / (b.true_seconds - a.true_seconds)
        for a, b in combinations(sorted(pairs, key=lambda pair: pair.true_seconds), 2)
        if b.true_seconds - a.true_seconds >= _LEAST_APART_SECONDS
    ]
    if not slopes:
        raise ValueError("pairs that lie close together tell nothing about a clock")
    scale = median(slopes)
    offset = median(pair.given_seconds - scale * pair.true_seconds for pair in pairs)
    return Fit(offset, scale, _by_place(pairs, lambda true: offset + scale * true))


def _faults(pairs: Sequence[Pair], found: Fit, allowed: Tolerance) -> list[str]:
    """What is wrong with the clock, in words; nothing when it stays within what is `allowed`."""
    if not found.holds(allowed):
        return [_broken(pairs, allowed)]
    said = []
    if abs(found.drift_seconds_an_hour) > allowed.drift_seconds_an_hour:
        scaled, drift = abs(found.scale - 1) >= _SCALED, found.drift_seconds_an_hour
        said.append(f"times are scaled by {found.scale:.3g}" if scaled else f"times drift by {drift:+.2f} s an hour")
    if abs(found.offset_seconds) > allowed.offset_seconds:
        late = "late" if found.offset_seconds > 0 else "early"
        said.append(f"times are {abs(found.offset_seconds):.2f} s {late}")
    return said


def judged(entry: ModelEntry, pairs: Sequence[Pair], allowed: Tolerance, much: str, latency_seconds: float) -> Verdict:
    """The verdict on enough pairs to judge by; `much` says how many that are."""
    found = fit(pairs)
    wrong = _faults(pairs, found, allowed)
    told = "; ".join([*(wrong or ["times are right"]), much])
    return verdict(entry, not wrong, told, latency_seconds, found if found.holds(allowed) else None)


def verdict(entry: ModelEntry, trusted: bool, told: str, latency_seconds: float, found: Fit | None = None) -> Verdict:
    """As a record: `told` becomes its sentence. Zeros lose their sign."""
    return Verdict(
        fingerprint=entry.fingerprint,
        trusted=trusted,
        reason=f"{told[0].upper()}{told[1:]}.",
        offset_seconds=round(found.offset_seconds, 3) + 0.0 if found else None,
        drift_seconds_an_hour=round(found.drift_seconds_an_hour, 2) + 0.0 if found else None,
        latency_seconds=round(latency_seconds, 3),
        checked_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _broken(pairs: Sequence[Pair], allowed: Tolerance) -> str:
    """Why no line goes through the pairs: times start again in every window, or jump."""
    shifts = _by_place(pairs, lambda true: true)
    window = _window_seconds([shift for _, shift in shifts], allowed.residual_seconds)
    if window:
        first = next(true for true, shift in shifts if abs(shift) > allowed.residual_seconds)
        return f"times start again at 0 before {clock(first)}: they are relative to windows of {clock(window)}"
    steps = [(after - before, true) for (_, before), (true, after) in pairwise(shifts)]
    step, true = max(steps, key=lambda step: abs(step[0]))
    return f"times jump by {step:+.1f} s before {clock(true)}"


def _window_seconds(shifts: Sequence[float], close_seconds: float) -> float | None:
    """The longest window of which all `shifts` are multiples, backwards; None when there is none."""
    moved = [-shift for shift in shifts if abs(shift) > close_seconds]
    if not moved or min(moved) < 0:
        return None
    for parts in range(1, _MOST_WINDOWS):
        window = min(moved) / parts
        if window < _LEAST_WINDOW * close_seconds:  # nearly anything is a multiple of a short one
            return None
        if all(abs(shift - round(shift / window) * window) <= close_seconds for shift in moved):
            return window
    return None


def _by_place(pairs: Sequence[Pair], expected: Callable[[float], float]) -> tuple[tuple[float, float], ...]:
    """(first true time, median of given less expected) of each place, in the order of time."""
    places: dict[int, list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.true_seconds):
        places.setdefault(pair.place, []).append(pair)
    return tuple(
        (own[0].true_seconds, median(pair.given_seconds - expected(pair.true_seconds) for pair in own))
        for own in places.values()
    )


def clock(seconds: float) -> str:
    """754.2 as 12:34."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
