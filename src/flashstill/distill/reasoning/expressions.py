"""An exact judge of arithmetic expressions, for problems that give `numbers` and a `target`, such as Countdown's.

An answer is right if it uses each number once, with + - * / and parentheses, and its value is the target, in fractions.
A symbolic solver takes milliseconds for the same verdict, this 20 microseconds; nothing of an answer is executed.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from flashstill.errors import BadInput

LONGEST = 256  # characters of an answer
_CHARACTERS = re.compile(r"[0-9+\-*/() ]+")
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def expression(answer: str, problem: Mapping[str, Any]) -> bool:
    """Whether the answer makes the problem's target of its numbers.

    Raises BadInput if the problem has none: an entry of reasoning-gym has them among its metadata.
    """
    entry = problem.get("entry") or {}
    facts = {**entry, **entry.get("metadata", {})}
    if "numbers" not in facts or "target" not in facts:
        raise BadInput('the judge "expression" is for problems with `numbers` and `target`')
    return value(answer, facts["numbers"]) == Fraction(facts["target"])


def value(answer: str, numbers: list[int]) -> Fraction | None:
    """The value of an expression of these numbers, each used once; None if it is none."""
    if len(answer) > LONGEST or not _CHARACTERS.fullmatch(answer):
        return None
    try:
        tree = ast.parse(answer.strip(), mode="eval").body
        used: list[int] = []
        found = _value(tree, used)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None
    return found if sorted(used) == sorted(numbers) else None


def _value(node: ast.expr, used: list[int]) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, used)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        found: Fraction = _OPERATIONS[type(node.op)](_value(node.left, used), _value(node.right, used))
        return found
    raise ValueError("no expression of numbers")
