"""Published scaling laws: worked figures of their papers, inverses, intervals, refusals, monotonicity."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flashstill.errors import BadInput
from flashstill.quality import published, published_names
from flashstill.quality.borrowed import dense_equivalent, peak_tokens
from flashstill.quality.forms import FORMS, NEEDED
from flashstill.quality.precision import kept_share, quantisation_damage
from flashstill.quality.table import entries

CHINCHILLA, APPLE, MOE = published("besiroglu-2024"), published("busbridge-2025"), published("ludziejewski-2025")


@pytest.mark.parametrize("name", published_names())
def test_every_law_is_whole(name: str) -> None:
    row, law = entries()[name], published(name)
    assert set(law.coefficients) == set(NEEDED[law.form])
    assert law.kind in ("published", "unverified")
    assert ("memory" in law.source) == (law.kind == "unverified")
    assert set(row.get("standard_errors", {})) <= set(law.coefficients)
    assert law.support.parameters[0] < law.support.parameters[1]
    assert law.support.tokens[0] < law.support.tokens[1]
    assert 1.0 < float(law.loss(1e9, 2e10)) < 4.0
    assert set(NEEDED) == set(FORMS)


def test_besiroglu_at_the_size_of_chinchilla() -> None:
    """1.8172 + 482.01 / N^0.3478 + 2085.43 / D^0.3658, by hand."""
    by_hand = 1.8172 + 482.01 / 70e9**0.3478 + 2085.43 / 1.4e12**0.3658
    assert float(CHINCHILLA.loss(70e9, 1.4e12)) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(
    ("size", "tokens", "teacher", "loss"),
    [
        (1e9, 2e10, None, 2.375), (1e9, 2e10, 2.4, 2.421), (1e9, 2e10, 2.2, 2.317), (1e9, 2e10, 2.0, 2.277),
        (1e9, 2e10, 1.8, 2.255), (1e9, 2e10, 1.7, 2.253), (1e9, 2e10, 1.6, 2.262), (1e9, 5e11, None, 2.163),
        (1e9, 5e11, 2.0, 2.152), (3e8, 1e11, None, 2.420), (3e8, 1e11, 2.2, 2.388),
    ],
)  # fmt: skip
def test_distilled_losses_of_the_sanity_table(size: float, tokens: float, teacher: float | None, loss: float) -> None:
    assert float(APPLE.loss(size, tokens, teacher_loss=teacher)) == pytest.approx(loss, abs=6e-4)


def test_a_teacher_can_be_too_strong() -> None:
    """The capacity gap: the student's loss over the teacher's has its minimum inside."""
    size, tokens = np.random.default_rng(2).uniform([[2e8], [5e9]], [[1e10], [5e11]], (2, 50))[..., None]
    losses = APPLE.loss(size, tokens, teacher_loss=np.linspace(1.25, 3.5, 400))
    best = np.argmin(losses, axis=1)
    assert np.all((best > 0) & (best < 399))
    assert np.all((losses[:, 0] > losses.min(axis=1)) & (losses.min(axis=1) < losses[:, -1]))


@pytest.mark.parametrize(
    ("experts", "m", "mu", "n", "nu"),
    [(1, 30.364, 0.1817, 53.98, 0.1965), (8, 21.833, 0.1676, 119.91, 0.2338), (32, 16.542, 0.1557, 234.67, 0.2652)],
)
def test_joint_moe_law_reproduces_table_4(experts: int, m: float, mu: float, n: float, nu: float) -> None:
    """Ludziejewski et al. 2025, table 4: the law at a number of experts, L = m N^-mu + n D^-nu + 1.3637."""
    size, tokens = np.meshgrid(np.geomspace(1e8, 3e9, 7), np.geomspace(1e10, 2e11, 7))
    table = m * size**-mu + n * tokens**-nu + 1.3637
    np.testing.assert_allclose(MOE.loss(size, tokens, experts=experts), table, rtol=3e-3)


@pytest.mark.parametrize("name", published_names())
def test_more_parameters_or_tokens_are_never_worse(name: str) -> None:
    """Whether experts, formats and repeats are the law's own or borrowed, and whatever the teacher."""
    numbers = np.random.default_rng(0)
    size, tokens = 10 ** numbers.uniform([[7], [8]], [[13], [15]], (2, 1000))
    taught: list[dict[str, float]] = [{"teacher_loss": loss} for loss in (1.3, 2.0, 3.5)] if name == APPLE.name else []
    borrowed: list[dict[str, float]] = [
        {"experts": 8},
        {"experts": 512},
        {"experts": 64, "unique_tokens": 1e11},
        {"weight_bits": 4},
    ]
    plain: dict[str, float] = {}
    for conditions in (plain, *borrowed, *taught):
        at = published(name).loss(size, tokens, **conditions)
        more = numbers.uniform(1.01, 20, 1000)
        assert np.all(published(name).loss(size * more, tokens, **conditions) <= at * (1 + 1e-12))
        assert np.all(published(name).loss(size, tokens * more, **conditions) <= at * (1 + 1e-12))


def test_experts_are_rated_highest_where_the_slopes_of_the_data_terms_are_equal() -> None:
    peak = float(peak_tokens(np.array(8.0)))
    assert 1e11 < peak < 3e11  # near the most tokens that the law saw
    ratios = dense_equivalent(np.array(1e9), peak * np.array([0.5, 0.9, 1.0, 10.0]), np.array(8.0))
    assert ratios[0] < ratios[1] < ratios[2] == ratios[3]
    assert np.isinf(peak_tokens(np.array(1.0)))
    notes = CHINCHILLA.predict(1e9, 1e12, experts=8).notes
    assert any("held beyond 200B tokens, where its formula lets their worth fall again" in note for note in notes)


@pytest.mark.parametrize("name", published_names())
@pytest.mark.parametrize("conditions", [{}, {"experts": 8}, {"unique_tokens": 1e12, "weight_bits": 8}])
def test_inverses(name: str, conditions: dict[str, float]) -> None:
    size, tokens = 10 ** np.random.default_rng(1).uniform([[8], [9]], [[10], [12]], (2, 40))
    law = published(name)
    loss = law.loss(size, tokens, **conditions)
    np.testing.assert_allclose(law.tokens_for(loss, size, **conditions), tokens, rtol=1e-3)
    np.testing.assert_allclose(law.parameters_for(loss, tokens, **conditions), size, rtol=1e-3)


def test_what_no_amount_reaches_is_infinite() -> None:
    np.testing.assert_array_equal(np.isinf(CHINCHILLA.tokens_for([1.7, 2.4], 1e9)), [True, False])
    assert np.isinf(CHINCHILLA.parameters_for(1.8, 1e12))
    assert np.isinf(APPLE.tokens_for(1.9, 1e9, teacher_loss=2.0))


def test_everything_broadcasts() -> None:
    losses = APPLE.loss([[1e9], [3e9]], [1e10, 1e11, 1e12], teacher_loss=2.0)
    assert losses.shape == (2, 3)
    around = CHINCHILLA.interval([[1e9], [3e9]], [1e10, 1e11, 1e12])
    assert around is not None
    assert around[0].shape == around[1].shape == (2, 3)
    assert np.all(around[0] < CHINCHILLA.loss([[1e9], [3e9]], [1e10, 1e11, 1e12]))
    many = CHINCHILLA.interval(np.full((1, 2500), 1e9), 1e11, draws=200)
    assert many is not None
    assert many[0].shape == (1, 2500)
    assert np.ptp(many[0]) < 1e-12
    assert CHINCHILLA.tokens_for([2.3, 2.4], [[1e9], [3e9], [9e9]]).shape == (3, 2)


def test_an_answer_says_what_it_rests_on() -> None:
    answer = APPLE.predict(1e9, 2e10, teacher_loss=2.0)
    assert any("unverified" in note for note in answer.notes)
    assert answer.as_dict()["scale"] == "nats per token of the paper's own on C4, English"
    assert answer.as_dict()["loss_low"] == pytest.approx(0.99 * float(answer.loss))
    assert answer.as_records() == [{name: pytest.approx(value) for name, value in answer.as_records()[0].items()}]
    inside = CHINCHILLA.predict(1e9, 1e11).notes
    beyond = CHINCHILLA.predict(7e10, 1.5e13).notes
    assert not any("fit saw" in note for note in inside)
    assert any("4.38 times above" in note and "extrapolation" not in note for note in beyond)
    assert any("30 times above" in note and "an extrapolation, not a prediction" in note for note in beyond)


def test_a_law_with_a_limit_refuses_what_lies_far_beyond() -> None:
    law = dataclasses.replace(CHINCHILLA, limit=10.0)
    assert law.loss(1e11, 1e12) == CHINCHILLA.loss(1e11, 1e12)
    with pytest.raises(BadInput, match=r"12\.5 times beyond the largest run"):
        law.loss(2e11, 1e12)
    with pytest.raises(BadInput, match="beyond 10 times a fit extrapolates only if it is told to"):
        law.tokens_for(1.98, 1e10)
    assert law.extrapolating().loss(2e11, 1e12) == CHINCHILLA.loss(2e11, 1e12)


def test_conditions_that_a_law_lacks_are_borrowed_or_refused() -> None:
    with pytest.raises(BadInput, match="busbridge-2025 takes it"):
        CHINCHILLA.loss(1e9, 1e10, teacher_loss=2.0)
    with pytest.raises(
        BadInput, match=r"no teacher has a loss of 1\.1 under busbridge-2025, where no model falls below 1\.22"
    ):
        APPLE.loss(1e9, 1e10, teacher_loss=[2.0, 1.1])
    with pytest.raises(BadInput, match="experts must be at least 1"):
        MOE.loss(1e9, 1e10, experts=0.5)
    with pytest.raises(BadInput, match="tokens must be positive"):
        CHINCHILLA.loss(1e9, 0)
    with pytest.raises(BadInput, match="parameters must be a number"):
        CHINCHILLA.loss("many", 1e9)
    with pytest.raises(BadInput, match=r"do not broadcast: parameters \(2,\), tokens \(3,\)"):
        CHINCHILLA.loss([1e9, 2e9], [1e10, 2e10, 3e10])
    with pytest.raises(BadInput, match="draws must be at least 1"):
        CHINCHILLA.interval(1e9, 1e10, draws=0)
    with pytest.raises(BadInput, match="nearest known: besiroglu-2024"):
        published("besirogli")
    plain = CHINCHILLA.loss(1e9, 2e10)
    assert CHINCHILLA.loss(1e9, 2e10, experts=8) < plain < CHINCHILLA.loss(1e9, 2e10, weight_bits=4)
    assert CHINCHILLA.loss(1e9, 2e10, weight_bits=16) == plain == CHINCHILLA.loss(1e9, 2e10, unique_tokens=3e10)
    assert CHINCHILLA.loss(1e9, 2e10, unique_tokens=2e9) > plain
    notes = CHINCHILLA.predict(1e9, 2e10, experts=64, weight_bits=4, unique_tokens=1e9).notes
    for words in ("dense model with which ludziejewski-2025", "at most 32 experts", "by the shape of kumar-2024", "C4"):
        assert any(words in note for note in notes)


def test_a_mixture_equals_its_dense_equivalent_under_the_joint_law() -> None:
    size, tokens = np.array([5e8, 2e9]), np.array([3e10, 1e11])
    dense = dense_equivalent(size, tokens, np.array(16.0))
    np.testing.assert_allclose(MOE.loss(dense, tokens), MOE.loss(size, tokens, experts=16), rtol=1e-9)
    assert np.all(dense > size)


def test_the_interval_of_the_refit_is_that_of_its_standard_errors() -> None:
    """Its covariance has the paper's standard errors; with the correlations, a loss inside is known within 1 %."""
    errors = CHINCHILLA.spread
    drawn = errors.draws(CHINCHILLA.coefficients, 20_000, seed=1)
    assert drawn is not None
    for name, error in errors.standard_errors.items():
        assert np.std(drawn[name]) == pytest.approx(error, rel=0.35)  # the paper rounds 0.0145 to 0.02
        assert np.median(drawn[name]) == pytest.approx(CHINCHILLA.coefficients[name], rel=0.01)
    answer = CHINCHILLA.predict(1e9, 1e11)
    assert answer.low < answer.loss < answer.high < answer.low * 1.01
    wide = CHINCHILLA.predict(1e9, 1e11, level=0.99)
    assert wide.low < answer.low < answer.high < wide.high
    alone = dataclasses.replace(CHINCHILLA, spread=dataclasses.replace(errors, covariance=(), order=()))
    assert alone.predict(1e9, 1e11).high > answer.high * 1.02
    assert any("drawn independently" in note for note in alone.predict(1e9, 1e11).notes)
    assert published("hoffmann-2022").predict(1e9, 1e11).low is None
    with pytest.raises(BadInput, match="level must lie between 0 and 1"):
        CHINCHILLA.predict(1e9, 1e11, level=80)


def test_formats_by_hand() -> None:
    """Kumar et al. 2024: each format keeps 1 - exp(-bits / its scale), and damage grows with tokens a parameter."""
    c = {"weights": 2.0, "activations": 4.0, "cache": 8.0, "C_T": 3.0, "gamma_D": 0.5, "gamma_N": 0.25, "post": 2.0}
    narrow = kept_share(c, weight_bits=np.asarray(4.0), activation_bits=np.asarray(8.0), cache_bits=np.asarray(2.0))
    assert float(narrow) == pytest.approx((1 - np.exp(-2.0)) * (1 - np.exp(-2.0)) * (1 - np.exp(-0.25)))
    assert float(kept_share(c)) == pytest.approx((1 - np.exp(-8.0)) * (1 - np.exp(-4.0)) * (1 - np.exp(-2.0)))
    damage = quantisation_damage(c, np.asarray(16.0), np.asarray(100.0), np.asarray(4.0))
    assert float(damage) == pytest.approx(3.0 * 10.0 / 2.0 * np.exp(-2.0))
