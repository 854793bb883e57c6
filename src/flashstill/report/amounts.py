"""Numbers of charts in few characters: ticks, dollars, tokens."""

from __future__ import annotations

import math


def short(value: float) -> str:
    """A number of a tick: 250, 0.5, 12k, 3M, 2T."""
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (1 - 1e-9):
            return f"{value / size:.6g}{suffix}"
    return f"{value:.6g}"


def tokens(value: float) -> str:
    """A number of tokens in three figures, with B for a thousand millions: 361B, 2T."""
    return short(float(f"{value:.3g}")).replace("G", "B")


def dollars(value: float) -> str:
    """Dollars in three figures: $87.1k, $0.0042, -$1.2B."""
    sign, size = "-" if value < 0.0 else "", abs(value)
    for least, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if size >= least * (1 - 5e-4):
            return f"{sign}${size / (1e3 if suffix == 'k' else least):.3g}{suffix}"
    plain = f"{size:,.0f}" if size >= 999.5 else f"{size:.3g}"
    if 1e-9 <= size < 1e-4:
        plain = f"{size:.{2 - math.floor(math.log10(size))}f}"
    cents = "0" if plain[-2:-1] == "." else ""
    return f"{sign}${plain}{cents}"
