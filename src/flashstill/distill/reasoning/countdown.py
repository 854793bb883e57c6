"""The problems of reasoning-gym's countdown family without a computer algebra system in their making.

The gym builds an expression of symbols for every attempt at a problem, puts numbers in and evaluates it by sympy, which
takes some 7 ms.  Here the values are plain integers (a division is only made where nothing is left over), and the text
of an expression is made by sympy once for each sequence of operators.  Random draws are taken in the gym's order, so
that the problems are the gym's own; some are compared before others are drawn, and a version of the gym that makes
other problems is used as it is.
"""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import Any

COMPARED = 4
_MOST_ATTEMPTS = 100
_MOST_TEXTS = 2**14


def fast(dataset: Any, first: int, count: int) -> Any:
    """A data set with the same problems as one of the gym's countdown family, made faster; or that one, if some of
    problems first .. first + count - 1 differ."""
    own = type("Fast", (type(dataset),), {"_generate_expression": _expression})(dataset.config)
    try:
        is_same = all(own[index] == dataset[index] for index in range(first, first + min(count, COMPARED)))
    except (AttributeError, TypeError, KeyError):  # another version has other names
        return dataset
    return own if is_same else dataset


def _expression(self: Any, rng: Random) -> tuple[str, list[int], int]:
    """An expression, the numbers in it and its value, by the draws of CountdownDataset._generate_expression."""
    config = self.config
    terms = rng.randint(config.min_numbers, config.max_numbers)
    for _ in range(_MOST_ATTEMPTS):
        numbers = [rng.randint(config.min_value, config.max_value) for _ in range(terms)]
        value, signs = numbers[0], []
        for place in range(1, terms):
            sign = rng.choice(config.operators)
            if sign == "/":
                sign = _division(rng, value, numbers, place)
            signs.append(sign)
            value = _applied(value, sign, numbers[place])
        if config.min_target <= value <= config.max_target:
            return _text(tuple(signs), numbers), numbers, value
    raise ValueError(f"Failed to generate valid expression after {_MOST_ATTEMPTS} attempts")  # the gym's own words


def _division(rng: Random, value: int, numbers: list[int], place: int) -> str:
    """What becomes of a division: numbers[place] is one of the numbers left that divides the value, if there is one."""
    if numbers[place] == 0:
        return "+"
    left = [number for number in numbers[place:] if number != 0]
    rng.shuffle(left)
    divisor = next((number for number in left if value % number == 0), None)
    if divisor is None:
        return "-"
    numbers[place] = divisor
    return "/"


def _applied(value: int, sign: str, number: int) -> int:
    if sign == "+":
        return value + number
    if sign == "-":
        return value - number
    return value * number if sign == "*" else value // number


def _text(signs: tuple[str, ...], numbers: list[int]) -> str:
    text = _symbols(signs)
    for place in reversed(range(len(numbers))):  # x_10 before x_1
        text = text.replace(f"x_{place}", str(numbers[place]))
    return text


@lru_cache(_MOST_TEXTS)
def _symbols(signs: tuple[str, ...]) -> str:
    """The expression of x_0, x_1, ... as sympy writes it."""
    import sympy

    names = sympy.symbols(f"x_0:{len(signs) + 1}")
    made = names[0]
    for sign, name in zip(signs, names[1:], strict=True):
        made = {"+": made + name, "-": made - name, "*": made * name, "/": made / name}[sign]
    return str(made)
