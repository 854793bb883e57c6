"""The fewest copies of something that are enough, where more of them never do worse."""

from __future__ import annotations

from collections.abc import Callable


def fewest(is_enough: Callable[[int], bool], low: int, most: int) -> int | None:
    """The fewest from `low` (at least 1) on that are enough, by doubling and bisection; None if none up to `most`."""
    high = low
    while not is_enough(high):
        if high > most:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
