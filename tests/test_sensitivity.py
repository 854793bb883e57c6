"""Sobol indices, quantiles and the tornado, on functions whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flashstill.economics.bill_of_materials import Rows
from flashstill.economics.draws import Draws, Values, triangular
from flashstill.economics.sensitivity import drawn, drivers, interval, quantiles, tornado, uncertain_rows
from flashstill.errors import BadInput
from flashstill.facts import Fact, Facts


def row(name: str, low: float, value: float, high: float) -> Fact:
    return Fact(
        name=name, quantity="share", value=value, low=low, high=high, unit="1", per="", condition="", kind="estimate",
        source="made for a test", as_of="2026-11-29", note="",
    )  # fmt: skip


def facts_of(*rows: Fact) -> Facts:
    return Facts(rows={(each.name, each.quantity): (each,) for each in rows}, machines={})


HALVES = facts_of(*(row(name, 0.0, 0.5, 1.0) for name in "abc"), row("known", 2.0, 2.0, 2.0))


def uniform(rows: Rows, name: str) -> Values:
    """The share of a triangular distribution on [0, 1] below the row's value: uniform, as the row is drawn."""
    x = np.asarray(rows.value(name, "share"))
    return np.where(x < 0.5, 2.0 * x**2, 1.0 - 2.0 * (1.0 - x) ** 2)


def ishigami(rows: Rows) -> Values:
    a, b, c = (math.pi * (2.0 * uniform(rows, name) - 1.0) for name in "abc")
    values: Values = np.sin(a) + 7.0 * np.sin(b) ** 2 + 0.1 * c**4 * np.sin(a)
    return values


def test_the_ishigami_function() -> None:
    """Ishigami and Homma 1990, with 7 and 0.1: first 0.3139, 0.4424, 0; total 0.5576, 0.4424, 0.2437."""
    found = {driver.name: driver for driver in drivers(HALVES, ishigami, count=2**15)}
    known = {"a": (0.3139, 0.5576), "b": (0.4424, 0.4424), "c": (0.0, 0.2437)}
    for name, (first, total) in known.items():
        assert found[name].first == pytest.approx(first, abs=3.5 * found[name].first_error)
        assert found[name].total == pytest.approx(total, abs=3.5 * found[name].total_error)
        assert 0.0 < found[name].first_error < 0.02
    assert [driver.name for driver in drivers(HALVES, ishigami, count=2**15)] == ["a", "b", "c"]


def test_a_sum_shares_its_variance_by_that_of_its_rows() -> None:
    """Triangular variance (l^2 + v^2 + h^2 - lv - lh - vh) / 18; in a sum first and total agree and add up to 1."""
    rows = [row("a", 0.0, 1.0, 4.0), row("b", -3.0, 2.0, 2.5)]
    facts = facts_of(*rows, row("known", 2.0, 2.0, 2.0))

    def figure(of: Rows) -> Values:
        total: Values = of.value("a", "share") + of.value("b", "share") * of.value("known", "share")
        return total

    spread = {each.name: _variance(each) for each in rows}
    spread["b"] *= 4.0
    found = {driver.name: driver for driver in drivers(facts, figure, count=2**15)}
    assert set(found) == {"a", "b"}
    for name, driver in found.items():
        share = spread[name] / sum(spread.values())
        assert driver.first == pytest.approx(share, abs=0.02)
        assert driver.total == pytest.approx(share, abs=0.02)
    assert (found["a"].at_low, found["a"].at_high) == (0.0 + 4.0, 4.0 + 4.0)
    assert (found["b"].at_low, found["b"].at_high) == (1.0 - 6.0, 1.0 + 5.0)


def test_what_is_added_to_a_figure_changes_no_index() -> None:
    """Dollars lie far from 0: an estimate that does not take the mean off is noise a thousand times as large."""

    def indices(more: float) -> list[tuple[float, float]]:
        found = drivers(HALVES, lambda rows: ishigami(rows) + more, count=2**12)
        return [(each.first, each.total) for each in found]

    assert np.array(indices(1e4)) == pytest.approx(np.array(indices(0.0)), abs=1e-6)


def _variance(each: Fact) -> float:
    low, value, high = each.low, each.value, each.high
    return (low**2 + value**2 + high**2 - low * value - low * high - value * high) / 18.0


def test_triangular_draws() -> None:
    """Mean (l + v + h) / 3, its variance, and the shares below two values."""
    each = row("a", 1.0, 2.0, 5.0)
    shares = (np.arange(700) + 0.5) / 700
    first, second = (axis.ravel() for axis in np.meshgrid(shares, shares))  # every pair of shares: an exact quadrature
    values = triangular(each, first, second)
    assert (values.min(), values.max()) == pytest.approx((1.0, 5.0), abs=0.01)
    assert values.mean() == pytest.approx((1.0 + 2.0 + 5.0) / 3.0, abs=1e-5)
    assert values.var() == pytest.approx(_variance(each), rel=1e-4)
    assert (values < 2.0).mean() == pytest.approx(0.25, abs=2e-3)
    assert (values < 3.5).mean() == pytest.approx(1.0 - 1.5**2 / 12.0, abs=2e-3)
    for edge in (row("a", 1.0, 1.0, 5.0), row("a", 1.0, 5.0, 5.0), row("a", 1.0, 1.0, 1.0)):
        ends = triangular(edge, np.array([0.0, 1.0]), np.array([0.0, 1.0]))
        assert ends.tolist() == [edge.low, edge.high]


def test_draws_of_a_row_do_not_depend_on_the_others() -> None:
    alone = Draws(facts=HALVES, count=50)
    after = Draws(facts=HALVES, count=50)
    after.value("b", "share")
    assert np.array_equal(alone.value("a", "share"), after.value("a", "share"))
    assert not np.array_equal(alone.value("a", "share"), alone.value("b", "share"))
    assert not np.array_equal(alone.value("a", "share"), Draws(facts=HALVES, count=50, seed=1).value("a", "share"))


def test_parts_of_many_draws_are_drawn_anew() -> None:
    values = drawn(HALVES, lambda rows: {"a": rows.value("a", "share")}, 40_000)["a"]
    assert len(values) == len(np.unique(values)) == 40_000
    with pytest.raises(BadInput, match="at least 1"):
        drawn(HALVES, lambda rows: {}, 0)


def test_quantiles_of_what_may_never_be() -> None:
    values = np.array([*range(1, 9), math.inf, math.inf], dtype=float)
    assert quantiles(values) == (1.0, 5.0, None)
    assert interval(np.arange(1.0, 101.0)) == {"p10": 10.0, "p50": 50.0, "p90": 90.0}


def test_only_rows_with_a_range_are_drivers() -> None:
    def figure(rows: Rows) -> Values:
        product: Values = rows.value("known", "share") * rows.value("c", "share")
        return product

    assert [each.name for each in uncertain_rows(HALVES, figure)] == ["c"]
    assert tornado(HALVES, figure, uncertain_rows(HALVES, figure)).tolist() == [[0.0, 2.0]]
    assert drivers(HALVES, lambda rows: rows.value("known", "share")) == ()
    with pytest.raises(BadInput, match="finite"):
        drivers(HALVES, lambda rows: np.where(rows.value("a", "share") > 0.5, 1.0, math.inf), count=64)


@pytest.mark.slow
def test_as_scipy_finds_them() -> None:
    from scipy.stats import sobol_indices
    from scipy.stats import uniform as flat

    def plain(x: Values) -> Values:
        a, b, c = x
        values: Values = np.sin(a) + 7.0 * np.sin(b) ** 2 + 0.1 * c**4 * np.sin(a)
        return values

    theirs = sobol_indices(func=plain, n=2**13, dists=[flat(loc=-math.pi, scale=2 * math.pi)] * 3, rng=0)
    ours = {driver.name: driver for driver in drivers(HALVES, ishigami, count=2**16)}
    for number, name in enumerate("abc"):
        assert ours[name].first == pytest.approx(float(theirs.first_order[number]), abs=0.02)
        assert ours[name].total == pytest.approx(float(theirs.total_order[number]), abs=0.02)
