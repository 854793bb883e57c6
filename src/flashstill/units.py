"""Units: formatting quantities for output and parsing them from input.

All other modules compute in seconds, bytes, FLOPs, joules, watts and dollars.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

PICO = 1e-12
BITS_PER_BYTE = 8
FLOPS_PER_MAC = 2.0
"""of a multiply-accumulate: one product and one sum"""
SECONDS_PER_HOUR = 3600.0
HOURS_PER_DAY = 24.0
SECONDS_PER_DAY = HOURS_PER_DAY * SECONDS_PER_HOUR
HOURS_PER_YEAR = 8766.0
DAYS_PER_YEAR = HOURS_PER_YEAR / HOURS_PER_DAY
JOULES_PER_KWH = 3.6e6
TOKENS_PER_MILLION = 1e6
LN_2 = math.log(2.0)

_PREFIXES = (
    (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"),
    (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"),
)  # fmt: skip
_WITH_PREFIX = {"s", "J", "W", "B", "B/s", "FLOP", "FLOP/s", "pJ"}


def show(value: float, unit: str, digits: int = 3) -> str:
    """`value` formatted for display: show(3.35e12, "B/s") is "3.35 TB/s". Unit "1" gives the bare number."""
    if not math.isfinite(value):
        return f"{value} {unit}".strip()
    if unit == "1":
        return f"{value:.{digits}g}"
    if unit == "pJ":
        return f"{value:,.{_decimals(value, digits)}f} pJ"
    if unit == "USD" or unit.startswith("USD/"):
        suffix = unit.removeprefix("USD")
        return f"${value:,.{max(2, _decimals(value, digits)) if abs(value) < 1000 else 0}f}{suffix}"
    if unit == "s" and abs(value) >= LONG_S:
        return _long(value, digits)
    if unit not in _WITH_PREFIX or value == 0:
        return f"{figures(value, digits)} {unit}"
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s * (1.0 - 0.5 * 10.0**-digits)), _PREFIXES[-1])
    return f"{value / scale:.{digits}g} {prefix}{unit}"


def figures(value: float, digits: int = 3) -> str:
    """A number in at least so many figures, never as a power of ten above 1: 0.0123, 4.58, 4,580."""
    return f"{value:,.0f}" if abs(value) >= 10.0**digits * (1.0 - 0.5 * 10.0**-digits) else f"{value:.{digits}g}"


LONG_S = 999.5
"""seconds from which on thousands are no unit of time that anybody uses"""
_LONG = (
    ("years", HOURS_PER_YEAR * SECONDS_PER_HOUR, 2.0), ("days", SECONDS_PER_DAY, 2.0), ("h", SECONDS_PER_HOUR, 2.75),
)  # fmt: skip
"""units of long times, their seconds, and how many of them there are at least"""


def _long(seconds: float, digits: int) -> str:
    """Seconds up to ten thousand, then hours, from two days on days, and from two years on years."""
    for unit, size, least in _LONG:
        if abs(seconds) >= least * size:
            many = seconds / size
            return f"{figures(many, digits)} {unit}"
    return f"{seconds:,.0f} s"


def short_count(count: float, digits: int = 3) -> str:
    """A number of parameters or tokens in three figures: 350k, 124M, 70.6B, 1.03T; 999.7e9 is 1T, not 1e+03B.

    digits: of these figures, where another number than three is known or meant.
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        many = count / size
        if many >= 1.0 - 0.5 * 10.0**-digits:
            return f"{float(f'{many:.{digits}g}'):,g}{letter}"
    return f"{count:.{digits}g}"


def _decimals(value: float, digits: int) -> int:
    if value == 0:
        return 0
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


_DECIMAL = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BELOW_ONE = {"m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9, "p": 1e-12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_BYTES = _DECIMAL | _BINARY
_PREFIXES_OF = {
    "B": _BYTES, "B/s": _BYTES, "FLOP/s": _DECIMAL, "FLOP": _DECIMAL, "1": _BYTES, "USD": _DECIMAL,
    "s": _BELOW_ONE, "W": {**_DECIMAL, "m": 1e-3}, "J": {**_DECIMAL, **_BELOW_ONE},
}  # fmt: skip
"""unit -> accepted prefixes; counts have no m, which could mean a million or a thousandth"""
_SPELLINGS = {
    "FLOP/s": ("FLOP/s", "FLOPS", "FLOPs/s", "OP/s", "OPS"),
    "1": ("", "x"),
    "s": ("s", "sec"),
    "B/s": ("B/s", "Bps"),
    "USD": ("USD", ""),
    "USD/h": ("USD/h", "/h", "/hour", "USD/hour"),
    "USD/kWh": ("USD/kWh", "/kWh"),
    "year": ("year", "years", "y"),
}
_LONGER_TIMES = {"min": 60.0, "h": 3600.0}
_AMOUNT = re.compile(r"([+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?) *(.*)", re.ASCII)
_LONGEST_AMOUNT = 60


def parse_amount(text: str, unit: str) -> float | None:
    """Parse a quantity into `unit`: parse_amount("6.7TB/s", "B/s") is 6.7e12; None if the text cannot be parsed.

    A bare number is in `unit`.  Accepted: SI prefixes (k, M, G, T, P; for seconds, watts and joules also m, u, n),
    binary prefixes for bytes and counts (KiB, MiB, GiB; 4Ki), B for 1e9 of counts and dollars, a leading $ for dollars,
    % for ratios.  A prefix alone may stand for prefix and unit (`4k`).  Non-finite numbers and digits beyond ASCII also
    give None.
    """
    plain = text.strip()
    if len(plain) > _LONGEST_AMOUNT:
        return None
    if unit.startswith("USD"):
        plain = plain.removeprefix("$")
    match = _AMOUNT.fullmatch(plain)
    if match is None:
        return None
    scale = _scales(unit).get(match[2].strip())
    value = math.nan if scale is None else float(match[1]) * scale
    return value if math.isfinite(value) else None


LARGEST_COUNT = 2**53
"""a float represents every whole number up to this one exactly"""


def parse_count(text: str) -> int | None:
    """Parse a whole number such as 16, 1e3, 4k (4,000) or 4Ki (4,096); None if it is not one or is too large."""
    value = parse_amount(text, "1")
    if value is None or not value.is_integer() or abs(value) > LARGEST_COUNT or text.strip().endswith(("%", "x")):
        return None
    return int(value)


@lru_cache(maxsize=64)
def _scales(unit: str) -> dict[str, float]:
    """Accepted suffix of a quantity in `unit` -> its factor."""
    prefixes = {"": 1.0, **_PREFIXES_OF.get(unit, {})}
    factors = dict(prefixes)
    for spelling in _SPELLINGS.get(unit, (unit,)):
        factors.update((prefix + spelling, factor) for prefix, factor in prefixes.items())
    if unit == "s":
        factors.update(_LONGER_TIMES)
    if unit == "1":
        factors["%"] = 0.01
    if unit in ("1", "USD"):
        factors |= dict.fromkeys(("B", "b"), 1e9)
    return factors
