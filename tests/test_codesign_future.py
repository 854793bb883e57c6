"""Futures of a chip: what a mix, a future and a spread refuse, and how years are looked up."""

from __future__ import annotations

import pytest

from flashstill.arch import load_architecture
from flashstill.codesign.future import DENSE, Future, Mix, Share, Spread, mix_of
from flashstill.errors import BadInput

MODEL = load_architecture("llama-3.1-8b")


def share(weight: float = 1.0, **changed: float) -> Share:
    return Share(**({"model": MODEL, "weight": weight, "isl": 1000, "osl": 500} | changed))  # type: ignore[arg-type]


def test_weights_are_scaled_to_one_and_checked() -> None:
    mix = mix_of("two", (share(3.0), share(1.0)))
    assert [part.weight for part in mix.shares] == [0.75, 0.25]
    with pytest.raises(BadInput, match="sum to 4, not to 1"):
        Mix(name="two", shares=(share(3.0), share(1.0)))
    with pytest.raises(BadInput, match="has no models"):
        Mix(name="none", shares=())


def test_the_last_year_of_a_future_goes_on() -> None:
    first, last = mix_of("first", (share(),)), mix_of("last", (share(osl=900),))
    future = Future(name="grows", kind=DENSE, mixes=(first, last), demand=(1.0, 2.0, 4.0), probability=1.0)
    assert [future.mix(year).name for year in range(4)] == ["first", "last", "last", "last"]
    assert [future.tokens(year) for year in range(4)] == [1.0, 2.0, 4.0, 4.0]


@pytest.mark.parametrize("changed", [{"isl": 0}, {"osl": -1}, {"weight": 0.0}, {"max_tpot_s": 0.0}])
def test_an_impossible_share_is_refused(changed: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        share(**changed)


def test_a_spread_keeps_its_order() -> None:
    with pytest.raises(BadInput, match="low <= value <= high"):
        Spread(value=1.0, low=2.0, high=3.0, unit="1", basis="none")
