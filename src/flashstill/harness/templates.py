"""Jinja templates of tasks in a sandbox: lm-eval's own environment lets them reach any Python object.

A template neither leads out of the values that it is given nor makes large ones: products are bounded by MOST, powers
by their exponents.
"""

from __future__ import annotations

from typing import Any

MOST = 2**20
"""characters or items that a template may make at once"""


def sandbox(plain: Any) -> Any:
    """lm-eval's Jinja environment as a sandbox: no attributes that lead out of the values, no endless ranges."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Bounded(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**"])

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            sizes = [len(each) if isinstance(each, (str, list, tuple)) else each for each in (left, right)]
            if not all(isinstance(size, (int, float)) for size in sizes) or _is_large(operator, *sizes):
                raise OverflowError("a template makes a value that is too large")
            return super().call_binop(context, operator, left, right)

    bounded = Bounded(loader=plain.loader, undefined=plain.undefined, keep_trailing_newline=True)
    bounded.filters.update(plain.filters)
    return bounded


def _is_large(operator: str, left: float, right: float) -> bool:
    return left * right > MOST if operator == "*" else abs(right) > 64 or abs(left) > MOST
