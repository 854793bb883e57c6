"""Lines of progress with the time that is left, for what is solved window by window."""

from __future__ import annotations

import time
from collections.abc import Callable


def counted(told: Callable[[str], None], total: int) -> Callable[[str], None]:
    """Told with "3 of 52" and the seconds left at the pace so far; to be called as each of `total` parts is done."""
    started, done = time.perf_counter(), 0

    def tell(what: str) -> None:
        nonlocal done
        done += 1
        left = (time.perf_counter() - started) / done * (total - done)
        told(f"{what} {done:,} of {total:,}, about {left:,.0f} s left")

    return tell
