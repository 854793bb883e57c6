"""Compute-optimal and inference-aware models: the papers' tables and example, first-order conditions, scales."""

from __future__ import annotations

import numpy as np
import pytest

from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.quality import published
from flashstill.quality.optimum import Life, cheapest, compute_optimal, elasticities, usd_per_flop
from flashstill.quality.scales import check_one_scale, converted, difference

HOFFMANN, CHINCHILLA, APPLE = published("hoffmann-2022"), published("besiroglu-2024"), published("busbridge-2025")


def best_tokens(parameters: float) -> float:
    """Tokens for which a size is compute-optimal: alpha A/N^alpha = beta B/D^beta."""
    c = HOFFMANN.coefficients
    return float((c["beta"] * c["B"] / (c["alpha"] * c["A"]) * parameters ** c["alpha"]) ** (1 / c["beta"]))


@pytest.mark.parametrize(
    ("parameters", "tokens"),
    [(4e8, 9.2e9), (1e9, 27.1e9), (1e10, 410.1e9), (67e9, 4.1e12), (175e9, 12e12), (1e12, 94.1e12)],
)
def test_approach_3_table(parameters: float, tokens: float) -> None:
    """Hoffmann et al. 2022, table A3 as recollected, whose last digits the published coefficients do not give."""
    found = compute_optimal(HOFFMANN, 6 * parameters * best_tokens(parameters))
    assert found.parameters == pytest.approx(parameters, rel=1e-4)
    assert found.tokens == pytest.approx(tokens, rel=0.17)


@pytest.mark.parametrize(
    ("flops", "parameters", "tokens"), [(1.21e20, 1e9, 20.2e9), (1.23e22, 1e10, 205e9), (5.76e23, 67e9, 1.5e12)]
)
def test_the_refit_agrees_with_approach_1(flops: float, parameters: float, tokens: float) -> None:
    """As Besiroglu et al. 2024 say; Hoffmann et al. 2022, table 3."""
    found = compute_optimal(CHINCHILLA, flops)
    assert found.parameters == pytest.approx(parameters, rel=0.3)
    assert found.tokens == pytest.approx(tokens, rel=0.3)
    assert HOFFMANN.coefficients["beta"] / 0.6241 == pytest.approx(0.46, abs=0.005)  # exponent of approach 3


def test_sardana_30b_quality_at_1_5e9_requests() -> None:
    """Sardana et al. 2024: 16B on 3.35T tokens, 17 % cheaper than the Chinchilla-optimal 30B.

    Prices and shares of the peak of the paper's second part, as recollected: training on A100 80 GB, inference in int8
    on A100 40 GB, half of the peak in training and for the 70 input tokens of a request, 1 % for its 215 output tokens.
    """
    loss = HOFFMANN.loss(30e9, best_tokens(30e9))
    life = Life(
        input_tokens=1.5e9 * 70,
        output_tokens=1.5e9 * 215,
        training_per_flop=usd_per_flop(1.5, 312e12, 0.5),
        input_per_flop=usd_per_flop(1.1, 624e12, 0.5),
        output_per_flop=usd_per_flop(1.1, 624e12, 0.01),
    )
    found = cheapest(HOFFMANN, loss, life)
    assert found.parameters == pytest.approx(16e9, rel=0.15)
    assert found.tokens == pytest.approx(3.35e12, rel=0.15)
    assert 1 - found.cost / life.cost(30e9, best_tokens(30e9)) == pytest.approx(0.17, abs=0.02)


def test_first_order_condition() -> None:
    """eps_N / eps_D = (6 N D + 2 N D_inf) / (6 N D + 2 N_T D); 1 + D_inf / (3 D) without a teacher."""
    numbers = np.random.default_rng(0)
    loss, served, teacher = numbers.uniform(np.array([[2.05], [0], [0]]), np.array([[2.9], [1e14], [1e11]]), (3, 40))
    served[:8] = teacher[4:12] = 0.0
    life = Life(input_tokens=served, teacher_parameters=teacher)
    found = cheapest(CHINCHILLA, loss, life)
    size, data = elasticities(CHINCHILLA, found.parameters, found.tokens)
    wanted = (1 + served / (3 * found.tokens)) / (1 + teacher / (3 * found.parameters))
    np.testing.assert_allclose(size / data, wanted, rtol=2e-3)
    for factor in (0.97, 1.03):
        near = found.parameters * factor
        assert np.all(life.cost(near, CHINCHILLA.tokens_for(loss, near)) >= found.cost)
    np.testing.assert_allclose(CHINCHILLA.loss(found.parameters, found.tokens), loss, rtol=1e-6)


def test_arrays_and_a_distilled_student() -> None:
    served = np.array([0.0, 1e11, 1e12, 1e13])
    found = cheapest(APPLE, [[2.35], [2.3]], Life(output_tokens=served, teacher_parameters=7e9), teacher_loss=2.0)
    assert found.parameters.shape == (2, 4)
    assert np.all(np.diff(found.parameters, axis=1) < 0)  # what serves more is smaller,
    assert np.all(np.diff(found.tokens, axis=1) > 0)  # and trained longer
    assert np.all(np.diff(found.cost, axis=1) > 0)
    np.testing.assert_allclose(found.cost, found.training + found.serving + found.teaching)
    with_fixed = cheapest(APPLE, 2.3, Life(output_tokens=1e12, teacher_parameters=7e9, fixed=1e24), teacher_loss=2.0)
    assert with_fixed.parameters == pytest.approx(found.parameters[1, 2], rel=1e-5)
    assert with_fixed.cost == pytest.approx(found.cost[1, 2] + 1e24)


def test_refusals() -> None:
    with pytest.raises(
        InfeasiblePlan, match=r"no model reaches a loss of 1\.8 under besiroglu-2024: .* stays above 1\.817"
    ):
        cheapest(CHINCHILLA, 1.8)
    with pytest.raises(BadInput, match="mfu must be a share of the peak"):
        usd_per_flop(1.0, 1e15, 40.0)
    with pytest.raises(BadInput, match="not on one scale and cannot be compared"):
        difference(CHINCHILLA.predict(1e9, 1e11), APPLE.predict(1e9, 1e11))
    with pytest.raises(BadInput, match="output_tokens must be at least 0"):
        Life(output_tokens=[1.0, -1.0])
    check_one_scale(CHINCHILLA, HOFFMANN.predict(1e9, 1e10))
    assert difference(CHINCHILLA.predict(1e9, 1e11), CHINCHILLA.predict(1e9, 1e12)) > 0


def test_losses_are_carried_over_by_equal_compute() -> None:
    told = converted(2.2, CHINCHILLA, APPLE)
    assert told.flops == pytest.approx(cheapest(CHINCHILLA, 2.2).cost)
    assert converted(told.loss, APPLE, CHINCHILLA).loss == pytest.approx(2.2, abs=1e-3)
    assert "equal compute" in told.note
