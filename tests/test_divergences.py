"""Every divergence: known values, closed-form slopes against autograd in float64, and the traps of peers."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from flashstill.distill.losses import (
    Chunks,
    DenseTeacher,
    Divergence,
    Sparse,
    Term,
    cross_entropy,
    divergence,
    forward_kl,
    generalised_jsd,
    head_loss,
    one_hot,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    sparse_loss,
    total_variation,
)
from flashstill.distill.losses.sparse import sparse_value_and_slope
from flashstill.errors import BadInput
from tests.tensors import logits

ALL = [
    forward_kl, reverse_kl, total_variation, generalised_jsd(0.1), generalised_jsd(0.5), generalised_jsd(0.9),
    skew_kl(0.1), skew_kl(0.7), skew_reverse_kl(0.1), skew_reverse_kl(0.7),
]  # fmt: skip
every = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)


def autograd_slope(kind: Divergence, z: Tensor, y: Tensor, temperature: float) -> Tensor:
    z = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(kind(z, y, temperature).sum(), z)
    return slope


@every
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_closed_form_slopes(kind: Divergence, temperature: float) -> None:
    z, y = logits(2), logits(3)
    log_p, log_q = (y / temperature).log_softmax(-1), (z / temperature).log_softmax(-1)
    closed = kind.slope(log_p, log_q) * kind.scale(temperature) / temperature
    assert torch.allclose(closed, autograd_slope(kind, z, y, temperature), atol=1e-12)
    assert torch.allclose(closed.sum(-1), torch.zeros(7, dtype=torch.float64), atol=1e-12)


@every
def test_zero_where_the_student_is_the_teacher_and_positive_elsewhere(kind: Divergence) -> None:
    z = logits(0)
    assert float(kind(z, z).abs().max()) < 1e-12
    assert float(kind(z, z + 3.0).abs().max()) < 1e-12  # logits are known up to a constant
    assert float(kind(z, logits(1)).min()) > 0


@every
def test_extreme_logits_stay_finite(kind: Divergence) -> None:
    z = torch.tensor([[300.0, 0.0, -300.0], [0.0, 0.0, 0.0]])
    value = kind(z, -z)
    slope = kind.slope((-z).log_softmax(-1), z.log_softmax(-1))
    assert bool(torch.isfinite(value).all())
    assert bool(torch.isfinite(slope).all())


def test_values_by_hand() -> None:
    """p = (3/4, 1/4) and q = (1/4, 3/4)."""
    log3 = torch.log(torch.tensor(3.0, dtype=torch.float64))
    z, y = torch.stack([-log3, log3 * 0])[None], torch.stack([log3, log3 * 0])[None]
    kl = float(log3) / 2
    assert float(forward_kl(z, y)) == pytest.approx(kl)
    assert float(reverse_kl(z, y)) == pytest.approx(kl)
    assert float(total_variation(z, y)) == pytest.approx(0.5)
    half = 0.75 * torch.log(torch.tensor(1.5)) + 0.25 * torch.log(torch.tensor(0.5))
    assert float(generalised_jsd(0.5)(z, y)) == pytest.approx(float(half), rel=1e-6)


class TestHowTheyAreRelated:
    def test_the_jsd_is_symmetric_at_one_half_alone(self) -> None:
        z, y = logits(0), logits(1)
        assert torch.allclose(generalised_jsd(0.5)(z, y), generalised_jsd(0.5)(y, z))
        assert torch.allclose(generalised_jsd(0.2)(z, y), generalised_jsd(0.8)(y, z))

    def test_the_jsd_tends_to_both_kls(self) -> None:
        z, y = logits(0), logits(1)
        assert torch.allclose(generalised_jsd(1e-6)(z, y) / 1e-6, forward_kl(z, y), rtol=1e-3)
        assert torch.allclose(generalised_jsd(1 - 1e-6)(z, y) / 1e-6, reverse_kl(z, y), rtol=1e-3)

    def test_directions(self) -> None:
        z, y = logits(0), logits(1)
        assert torch.allclose(reverse_kl(z, y), forward_kl(y, z))
        assert torch.allclose(skew_reverse_kl(0.3)(z, y), skew_kl(0.3)(y, z))
        assert not torch.allclose(reverse_kl(z, y), forward_kl(z, y))

    def test_skew_bounds(self) -> None:
        z, y = 50 * logits(0), 50 * logits(1)
        for alpha in (0.1, 0.5):
            bound = -torch.log(torch.tensor(alpha, dtype=torch.float64)) + 1e-9
            assert float(skew_kl(alpha)(z, y).max()) <= bound
            assert float(skew_reverse_kl(alpha)(z, y).max()) <= bound
        assert torch.allclose(skew_kl(1e-9)(logits(0), logits(1)), forward_kl(logits(0), logits(1)), rtol=1e-6)

    def test_pinsker(self) -> None:
        z, y = logits(0), logits(1)
        assert bool((total_variation(z, y) <= (forward_kl(z, y) / 2).sqrt()).all())


@every
def test_the_scale_keeps_gradients_large_at_high_temperatures(kind: Divergence) -> None:
    """Without T^2 (T for total variation) the gradient at T = 300 would be 300 times smaller or more."""
    z, y = logits(4), logits(5)
    hot, hotter = (float(autograd_slope(kind, z, y, t).abs().mean()) for t in (300.0, 3000.0))
    assert hotter == pytest.approx(hot, rel=0.05)


@pytest.mark.parametrize("name", ["forward-kl", "reverse-kl", "total-variation", "jsd:0.5", "skew-kl:0.1"])
def test_names(name: str) -> None:
    assert divergence(name).name == name


@pytest.mark.parametrize("name", ["kl", "jsd", "jsd:2", "jsd:x", "forward-kl:0.5", ""])
def test_wrong_names(name: str) -> None:
    with pytest.raises(BadInput):
        divergence(name)


def top_k(y: Tensor, k: int, tail: bool = True) -> Sparse:
    kept = y.softmax(-1).topk(k, -1)
    weights = kept.values if tail else kept.values / kept.values.sum(-1, keepdim=True)
    return Sparse(ids=kept.indices, weights=weights, tail=tail)


class TestSparse:
    @pytest.mark.parametrize(
        "teacher", [top_k(logits(1), 4), top_k(logits(1), 4, tail=False), one_hot(torch.arange(7))]
    )
    def test_slopes(self, teacher: Sparse) -> None:
        z = logits(0).requires_grad_()
        value = sparse_loss(z, teacher)
        (expected,) = torch.autograd.grad(value.sum(), z)
        q, lse = z.detach().softmax(-1), z.detach().logsumexp(-1)
        ours = sparse_value_and_slope(z.detach(), q, lse, teacher)
        assert torch.allclose(ours, value.detach())
        assert torch.allclose(q, expected)

    def test_empty_places_add_nothing(self) -> None:
        z, full = logits(0), top_k(logits(1), 4)
        padded = Sparse(
            ids=torch.cat([full.ids, full.ids[:, :2]], -1),
            weights=torch.cat([full.weights, torch.zeros(7, 2, dtype=torch.float64)], -1),
            tail=True,
        )
        q, r = z.softmax(-1), z.softmax(-1)
        lse = z.logsumexp(-1)
        assert torch.allclose(sparse_value_and_slope(z, q, lse, full), sparse_value_and_slope(z, r, lse, padded))
        assert torch.allclose(q, r)

    def test_all_ids_are_the_forward_kl(self) -> None:
        z, y = logits(0), logits(1)
        assert torch.allclose(sparse_loss(z, top_k(y, 11)), forward_kl(z, y))

    def test_the_bucket_underestimates_and_grows_with_k(self) -> None:
        """Merging events never raises a KL."""
        z, y = logits(0), logits(1)
        values = [sparse_loss(z, top_k(y, k)) for k in (1, 3, 6, 11)]
        for fewer, more in itertools.pairwise(values):
            assert bool((fewer <= more + 1e-9).all())

    def test_truncation_without_a_bucket_inflates(self) -> None:
        """Scaled up to 1, top-k probabilities push a student that equals the teacher away from it."""
        y = logits(1)
        for tail, still in ((True, True), (False, False)):
            q = y.softmax(-1)
            sparse_value_and_slope(y, q, y.logsumexp(-1), top_k(y, 4, tail))
            assert (float(q.abs().max()) < 1e-6) is still

    def test_hard_targets_are_the_cross_entropy(self) -> None:
        targets = torch.arange(7) % 11
        assert torch.allclose(sparse_loss(logits(0), one_hot(targets)), cross_entropy(logits(0), targets))

    @pytest.mark.slow
    def test_draws_give_the_slope_of_the_forward_kl_on_average(self) -> None:
        """Sampled targets: weights are counts over draws, and E[q - w] = q - p."""
        z, y = logits(0), logits(1)
        p, q = y.softmax(-1), z.softmax(-1)
        generator = torch.Generator().manual_seed(0)
        total = torch.zeros_like(p)
        trials, draws = 4000, 12
        for _ in range(trials):
            ids = torch.multinomial(p, draws, replacement=True, generator=generator)
            found = q.clone()
            weights = torch.full(ids.shape, 1.0 / draws, dtype=torch.float64)
            sparse_value_and_slope(z, found, z.logsumexp(-1), Sparse(ids=ids, weights=weights))
            total += found
        error = (p * (1 - p) / (trials * draws)).sqrt()
        assert float(((total / trials - (q - p)).abs() / error).max()) < 5.0

    def test_a_temperature_is_refused(self) -> None:
        with pytest.raises(ValueError, match="temperature 1 only"):
            Term(teacher=one_hot(torch.arange(3)), temperature=2.0)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


HIDDEN, HEAD, WEIGHTS = draw(0, 10, 5), draw(1, 17, 5), draw(2, 10).abs()
TEACHERS, HEADS = (draw(3, 10, 8), draw(4, 10, 3)), (draw(5, 17, 8), draw(6, 17, 3))


def compare(terms: list[Term], dense: object, vocabulary: int | None = None) -> None:
    """Values and gradients of the fused head against `dense`, a function of logits."""
    assert callable(dense)
    hidden, head = HIDDEN.clone().requires_grad_(), HEAD.clone().requires_grad_()
    total, each = head_loss(hidden, head, terms, WEIGHTS, vocabulary, Chunks(group=7, block=3, strip=2))
    reference = dense(hidden @ head.T)
    assert torch.allclose(each, reference)
    ours = torch.autograd.grad(total, (hidden, head))
    theirs = torch.autograd.grad((reference * WEIGHTS).sum(), (hidden, head))
    for mine, expected in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, expected)


class TestFusedHead:
    @every
    @pytest.mark.parametrize("temperature", [1.0, 2.0])
    def test_every_divergence(self, kind: Divergence, temperature: float) -> None:
        teacher = DenseTeacher(hidden=TEACHERS[:1], heads=HEADS[:1])
        y = TEACHERS[0] @ HEADS[0].T
        compare([Term(teacher=teacher, divergence=kind, temperature=temperature)], lambda z: kind(z, y, temperature))

    def test_sparse_teachers(self) -> None:
        teacher = top_k(TEACHERS[0] @ HEADS[0].T, 5)
        compare([Term(teacher=teacher)], lambda z: sparse_loss(z, teacher))

    def test_mixes(self) -> None:
        """Hard and soft targets at different temperatures, and a third divergence."""
        y, targets = TEACHERS[0] @ HEADS[0].T, torch.arange(10)
        teacher = DenseTeacher(hidden=TEACHERS[:1], heads=HEADS[:1])
        compare(
            [
                Term(teacher=teacher, temperature=3.0, weight=0.7),
                Term(teacher=one_hot(targets), weight=0.2),
                Term(teacher=teacher, divergence=reverse_kl, weight=0.1),
            ],
            lambda z: 0.7 * forward_kl(z, y, 3.0) + 0.2 * cross_entropy(z, targets) + 0.1 * reverse_kl(z, y),
        )

    @pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
    @pytest.mark.parametrize("shares", [None, (0.3, 0.7)])
    @pytest.mark.parametrize("kind", [forward_kl, generalised_jsd(0.5)], ids=lambda kind: kind.name)
    def test_ensembles(self, mean: str, shares: tuple[float, float] | None, kind: Divergence) -> None:
        a, b = shares or (0.5, 0.5)
        first, second = (hidden @ head.T / 2.0 for hidden, head in zip(TEACHERS, HEADS, strict=True))
        if mean == "arithmetic":
            y = 2.0 * (a * first.softmax(-1) + b * second.softmax(-1)).log()
        else:
            y = 2.0 * (a * first + b * second)
        teacher = DenseTeacher(hidden=TEACHERS, heads=HEADS, shares=shares, mean=mean)
        compare([Term(teacher=teacher, divergence=kind, temperature=2.0)], lambda z: kind(z, y, 2.0))

    def test_padded_vocabularies(self) -> None:
        """Rows that only pad one of the heads are in no softmax and get no gradient."""
        teacher = DenseTeacher(hidden=TEACHERS[:1], heads=(torch.cat([HEADS[0], 9.0 + draw(7, 3, 8)]),))
        y = (TEACHERS[0] @ HEADS[0].T)[:, :15]
        terms = [Term(teacher=teacher)]
        compare(terms, lambda z: forward_kl(z[:, :15], y), vocabulary=15)
        with pytest.raises(ValueError, match="student 17, teacher 20"):
            head_loss(HIDDEN, HEAD, terms, WEIGHTS)
        with pytest.raises(ValueError, match="more than the 17 rows"):
            head_loss(HIDDEN, HEAD, terms, WEIGHTS, 18)

    def test_the_mean_is_over_tokens_and_masked_ones_count_nothing(self) -> None:
        """Two batches of 9 tokens and 1: a mean of means would weigh the one as much as the nine."""
        targets, mask = torch.arange(10), torch.ones(10, dtype=torch.float64)
        terms = [Term(teacher=one_hot(targets))]
        whole = head_loss(HIDDEN, HEAD, terms, mask / mask.sum())[0]
        split = sum(
            float(head_loss(HIDDEN[part], HEAD, [Term(teacher=one_hot(targets[part]))], mask[part] / mask.sum())[0])
            for part in (slice(0, 9), slice(9, 10))
        )
        assert float(whole) == pytest.approx(split)
        mask[4:] = 0.0
        kept = head_loss(HIDDEN, HEAD, terms, mask / mask.sum())[0]
        alone = head_loss(HIDDEN[:4], HEAD, [Term(teacher=one_hot(targets[:4]))], torch.full((4,), 0.25))[0]
        assert float(kept) == pytest.approx(float(alone))


def test_ensembles_of_the_wrong_size_are_refused() -> None:
    with pytest.raises(BadInput, match="2 teachers, but 1 weights"):
        DenseTeacher(hidden=TEACHERS, heads=HEADS, shares=(1.0,))
    with pytest.raises(BadInput, match="arithmetic"):
        DenseTeacher(hidden=TEACHERS, heads=HEADS, mean="arithmatic")
