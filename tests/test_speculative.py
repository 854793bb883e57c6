"""Speculative sampling: the target's own distribution whatever drafts, its greedy text, caches that are rolled back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from flashstill.distill.generate import ModelDrafter, Sampling, probabilities, sample, speculate, speculative
from flashstill.distill.generate.rollback import Reader
from flashstill.distill.models import Model
from flashstill.errors import BadInput
from tests.marks import slow
from tests.small_models import different, made, small
from tests.zoo import tiny

SOME = ("windowed",)
"""a cache that is cropped, and one of windows"""
OTHERS = ("llama", "olmo2", "recurrent", "mixed")
"""another family; a state that cannot go back, so that the text is read again; convolutions"""


def pairs_of(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    return np.bincount(tokens[:, 0] * vocabulary + tokens[:, 1], minlength=vocabulary**2)


def p_value(model: Model, draft: Model, settings: Sampling, rows: int) -> float:
    """Of a chi-square test that the first two new tokens have the target's own distribution."""
    prompt, vocabulary = np.asarray([5, 3]), 8
    drawn = speculate(model, ModelDrafter(draft), [prompt] * rows, settings, 2).tokens
    with torch.no_grad():
        first = probabilities(model(input_ids=torch.tensor(prompt)[None]).logits[:, -1], settings)[0]
        texts = torch.cat([torch.tensor(prompt).expand(vocabulary, -1), torch.arange(vocabulary)[:, None]], 1)
        second = probabilities(model(input_ids=texts).logits[:, -1], settings)
    expected = (first[:, None] * second).flatten().double().numpy() * rows
    seen = pairs_of(drawn, vocabulary)
    assert not seen[expected == 0].any()  # what top-p or top-k cut is never sampled
    often = expected >= 5
    rest = seen[~often].sum(), expected[~often].sum()
    counts, expectations = np.append(seen[often], rest[0]), np.append(expected[often], rest[1])
    return float(chisquare(counts[expectations > 0], expectations[expectations > 0] / expectations.sum() * rows).pvalue)


ROWS = 500
WARPED: list[dict[str, float]] = [{}, {"temperature": 0.7, "top_p": 0.8}, {"top_k": 3}]


def verified_p_value(rows: int) -> float:
    """Of a chi-square test that the first two tokens of a step have the target's distributions: verification alone."""
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.softmax(torch.randn(3, 6, generator=generator), -1) for _ in range(2))
    settings, counts = Sampling(seed=1), np.zeros(36, dtype=np.int64)
    for row in range(rows):
        draws = speculative.Draws(settings, row)
        drafts = speculative.Drafts(ids=[draws.of(each) for each in q[:2]], q=q[:2])
        agreed, last = speculative.verify(p, drafts, draws)
        text = [*drafts.ids[:agreed], last]
        second = text[1] if len(text) > 1 else draws.of(p[1])  # of the next step, whatever drafts it
        counts[text[0] * 6 + second] += 1
    return float(chisquare(counts, (p[0][:, None] * p[1]).flatten().double().numpy() * rows, sum_check=False).pvalue)


@pytest.mark.slow
def test_verified_tokens_have_the_distribution_of_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verified_p_value(1500) > 1e-3
    monkeypatch.setattr(speculative, "residual", lambda p, q: p)
    assert verified_p_value(1500) < 1e-6  # without the residual the test fails


@pytest.mark.slow
@pytest.mark.parametrize("warp", WARPED)
def test_drafted_text_has_the_distribution_of_the_target(warp: dict[str, float]) -> None:
    model = small()
    settings = Sampling(new_tokens=2, seed=3, **warp)  # type: ignore[arg-type]
    assert p_value(model, different(model), settings, ROWS) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*SOME, *OTHERS])
def test_greedy_drafting_gives_the_greedy_text_of_the_target(kind: str) -> None:
    model = made(kind)
    settings = Sampling(new_tokens=16, temperature=0.0)
    prompts = [np.random.default_rng(length).integers(3, 32, length) for length in (1, 9, 9)]
    plain = [sample(model, [prompt], settings).tokens[0] for prompt in prompts]
    for draft in (model, different(model)):
        drafted = speculate(model, ModelDrafter(draft), prompts, settings, 3)
        assert np.array_equal(drafted.tokens, np.stack(plain))
    assert drafted.accepted.sum() < drafted.tried.sum()  # some drafts were rejected, so that caches were rolled back


def test_a_model_that_drafts_for_itself_is_always_accepted() -> None:
    model = made("llama")
    drawn = speculate(model, ModelDrafter(model), [[3, 4], [7]], Sampling(new_tokens=12, seed=1), 3)
    assert np.array_equal(drawn.tried, drawn.accepted)
    assert drawn.steps.tolist() == [3, 3]  # four tokens a step


def test_a_stop_id_among_the_drafts_ends_the_row() -> None:
    model = made("llama")
    plain = sample(model, [[5, 9, 3]], Sampling(new_tokens=12, temperature=0.0)).tokens[0]
    settings = Sampling(new_tokens=12, temperature=0.0, stop=(int(plain[5]),))
    drawn = speculate(model, ModelDrafter(model), [[5, 9, 3]], settings, 4)
    last = int(np.flatnonzero(plain == plain[5])[0])
    assert drawn.tokens[0, : last + 1].tolist() == plain[: last + 1].tolist()
    assert drawn.lengths[0] == last + 1


@pytest.mark.parametrize("name", ["gpt2", *slow("gemma3_text", "lfm2", "mamba", "qwen3_moe", "jamba", "falcon_h1")])
def test_a_text_read_in_pieces_and_taken_back_has_the_states_of_one_pass(name: str) -> None:
    model = tiny(name)
    text = np.random.default_rng(0).integers(3, 30, 12).tolist()
    try:
        reader = Reader(model)
    except Exception as error:  # an architecture that `parts` does not know yet is refused in a sentence
        pytest.skip(str(error))
    with torch.no_grad():
        whole = Reader(model).read(text)
        first = reader.read(text[:5])
        reader.read([7, 8, 9])
        reader.forget(3)
        pieces = torch.cat([first, reader.read(text[5:8]), reader.read(text[8:])])
        moved = reader.follow([*text[:10], 3, 4])
        again = Reader(model).read([*text[:10], 3, 4])[-len(moved) :]
    torch.testing.assert_close(pieces, whole, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(moved, again, rtol=1e-3, atol=1e-4)


def test_a_number_of_drafts_below_one_is_refused() -> None:
    model = made("llama")
    with pytest.raises(BadInput, match="draft tokens must be at least 1"):
        speculate(model, ModelDrafter(model), [[3]], Sampling(), 0)
