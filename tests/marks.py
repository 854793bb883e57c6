"""What the fast suite leaves to the slow one: cases of many alike, and most examples of properties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

FAST = False
"""whether the fast suite runs, which conftest.py says before tests are imported"""
SHARE = 10
"""of the examples of a property, the fast suite tries one in so many"""


def examples(count: int, **more: Any) -> settings:
    """Settings of a property: `count` examples in the slow suite, fewer in the fast one."""
    return settings(max_examples=max(count // SHARE, 3) if FAST else count, deadline=None, **more)


def slow(*cases: Any) -> list[Any]:
    """Cases of `pytest.mark.parametrize` that only the slow suite tries; a tuple is the values of several arguments."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow) for case in cases]
