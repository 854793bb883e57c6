"""Every token chooses k experts, however unequal they are: with k of k, all are read from the first token on."""

from __future__ import annotations

import numpy as np
import pytest

from flashstill.workload.experts import distinct_experts


@pytest.mark.parametrize(("experts", "chosen"), [(4, 4), (8, 8), (8, 6), (4, 3), (128, 8), (2, 1)])
@pytest.mark.parametrize("skew", [0.5, 1.0, 2.0])
def test_one_token_meets_as_many_experts_as_it_chooses(experts: int, chosen: int, skew: float) -> None:
    assert distinct_experts(experts, chosen, 1.0, skew) == pytest.approx(chosen, rel=1e-9)


@pytest.mark.parametrize("skew", [0.5, 1.0])
def test_more_tokens_never_meet_fewer_experts_nor_more_than_uniform_routing(skew: float) -> None:
    tokens = np.array([1.0, 2.0, 3.0, 10.0, 100.0, 1e6])
    met = np.asarray(distinct_experts(8, 6, tokens, skew))
    assert np.all(np.diff(met) >= 0.0)
    assert np.all(met <= np.asarray(distinct_experts(8, 6, tokens)) * (1 + 1e-12))
    assert met[-1] == pytest.approx(8.0)


def test_popularity_without_a_cap_is_as_it_was() -> None:
    """Mixtral's 2 of 8: p_i = 2 i^-0.5 / 4.371, none above 1; four tokens meet the sum of 1 - (1 - p_i)^4."""
    shares = [2 * i**-0.5 / sum(j**-0.5 for j in range(1, 9)) for i in range(1, 9)]
    assert distinct_experts(8, 2, 4.0, 0.5) == pytest.approx(sum(1 - (1 - share) ** 4 for share in shares), rel=1e-12)
