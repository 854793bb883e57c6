"""Options that hold several values with commas between them."""

from __future__ import annotations

from flashstill.errors import BadInput, shortened
from flashstill.units import parse_count


def redundant_numbers(text: str | None) -> tuple[int | None, ...]:
    """The numbers of redundant experts to try, 0 among them; (None,), the fewest, where the option is not given."""
    if text is None:
        return (None,)
    numbers = [parse_count(word) for word in words(text)]
    if None in numbers or not numbers:
        raise BadInput(f"--redundant-experts is {shortened(text)!r}, not whole numbers with commas between")
    return tuple(numbers)


def words(text: str) -> list[str]:
    """The comma-separated words of a text."""
    return [word.strip() for word in text.split(",") if word.strip()]


def whole(text: str, name: str) -> int:
    """A whole number of at least 1; BadInput names the option."""
    number = parse_count(text)
    if number is None or number < 1:
        raise BadInput(f"{name} is {shortened(text)!r}, not a whole number of at least 1")
    return number
