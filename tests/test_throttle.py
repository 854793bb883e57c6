"""What a power limit costs: worked examples of the law, and what holds whatever the numbers are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.cost.throttle import clocked_seconds, throttled
from tests.marks import examples
from tests.round import round_chip

approx = pytest.approx
LEAST = 0.5
"""the round chip's lowest voltage; it draws 20 W while it waits"""
positive = st.floats(1e-3, 1e3)
share = st.floats(0.0, 1.0)


def limited(watts: float, *numbers: Any) -> tuple[Any, Any]:
    """Seconds added and share of the core's joules left, where `watts` are left beside those of a waiting chip."""
    found = throttled(round_chip(power_limit_w=20.0 + watts), *numbers)
    return found.added_s, found.core_ratio


def test_no_limit_no_change() -> None:
    assert limited(100.0, 1.0, 0.5, 60.0, 40.0) == (0.0, 1.0)
    assert limited(np.inf, 0.0, 0.0, 1.0, 1.0) == (0.0, 1.0)


def test_a_lower_clock_meets_the_limit() -> None:
    """A second of which 0.4 compute, at 0.8 of the clock: 1.1 s, in which 100 W are 110 J = 0.64 x 125 + 30."""
    added, left = limited(100.0, 1.0, 0.4, 125.0, 30.0)
    assert (added, left) == (approx(0.1, rel=1e-9), approx(0.64, rel=1e-9))


def test_all_computing_is_a_cube_root() -> None:
    """Nothing but the core: power falls with the cube of the clock, 0.6^3 = 0.216."""
    added, left = limited(100.0, 1.0, 1.0, 100.0 / 0.216, 0.0)
    assert (added, left) == (approx(1.0 / 0.6 - 1.0, rel=1e-9), approx(0.36, rel=1e-9))


def test_a_kernel_that_waits_for_memory_is_not_slowed() -> None:
    """100 W for a second: 0.49 x 100 + 51 J, at 0.7 of the clock, which memory does not feel."""
    assert limited(100.0, 1.0, 0.0, 100.0, 51.0) == (approx(0.0, abs=1e-9), approx(0.49, rel=1e-9))


def test_below_the_lowest_voltage_a_lower_clock_saves_nothing() -> None:
    """0.25 x 400 + 100 J at 100 W take 2 s, with a second of computing or of memory."""
    for clocked in (0.0, 0.3, 1.0):
        assert limited(100.0, 1.0, clocked, 400.0, 100.0) == (approx(1.0), approx(0.25))
    assert limited(100.0, 1.0, 0.0, 0.0, 300.0)[0] == approx(2.0)  # sending alone, without joules of the core


def test_seconds_that_follow_the_clock() -> None:
    """At half the clock a kernel of 2 s takes as long as its computing, or 2 s if memory takes that."""
    for compute, at_half in ((2.0, 4.0), (3.0, 4.0), (1.5, 3.0), (1.0, 2.0), (0.2, 2.0)):
        clocked = clocked_seconds(round_chip(), 2.0, compute)
        assert 2.0 + clocked * (1.0 / LEAST - 1.0) == approx(at_half)


@examples(60)
@given(positive, share, positive, positive, positive, st.floats(1.0, 3.0))
def test_what_holds_of_every_step(
    seconds: float, clocked: float, core: float, other: float, watts: float, more: float
) -> None:
    numbers = (seconds, clocked * seconds, core * seconds, other * seconds)
    added, left = limited(watts, *numbers)
    joules = core * seconds * left + other * seconds
    if core + other <= watts:
        assert (added, left) == (0.0, 1.0)
    else:
        assert added >= 0.0
        assert LEAST**2 * (1 - 1e-9) <= left <= 1 + 1e-9
        assert joules == approx(watts * (seconds + added), rel=1e-9)  # at the limit, whatever the solver left over
        clock = max(np.sqrt(left), LEAST)
        at_clock = seconds * (1.0 + clocked * (1.0 / clock - 1.0))
        assert seconds + added >= at_clock * (1 - 1e-7)
        if left > LEAST**2 * (1 + 1e-6):
            assert seconds + added == approx(at_clock, rel=1e-7)
    assert limited(watts * more, *numbers)[0] <= added * (1 + 1e-9) + 1e-12 * seconds
    for place in range(4):  # more seconds, or more joules of either kind, never end a step sooner
        larger = [number * (more if place == at else 1.0) for at, number in enumerate(numbers)]
        larger[1] = min(larger[1], larger[0])
        assert larger[0] + limited(watts, *larger)[0] >= (seconds + added) * (1 - 1e-9)
    assert limited(watts, *(7.0 * number for number in numbers)) == (
        approx(7.0 * added, rel=1e-9, abs=1e-12 * seconds),
        approx(left),
    )


def test_arrays_are_their_elements() -> None:
    rows = np.array([(1.0, 0.4, 125.0, 30.0), (1.0, 0.4, 50.0, 30.0), (1.0, 1.0, 400.0, 100.0), (0.0, 0.0, 0.0, 0.0)])
    added, left = limited(100.0, *rows.T)
    for row, one, ratio in zip(rows, added, left, strict=True):
        assert limited(100.0, *row) == (approx(one), approx(ratio))
