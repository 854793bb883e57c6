"""Sampling: the model's own distribution, its own greedy text, and rows that do not see each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import chisquare, kstest

from flashstill.distill.generate import Sampling, choose, decoder_of, note_on_cache, rows, sample
from flashstill.distill.generate.cached import CachedDecoder
from flashstill.distill.generate.llama import LlamaDecoder
from flashstill.distill.generate.philox import philox, uniform
from flashstill.distill.losses import Workspace
from flashstill.distill.models import Model, keep_layers
from flashstill.distill.students import Experts, Format, quantise_aware, upcycle
from flashstill.errors import BadInput
from tests import zoo
from tests.marks import slow
from tests.small_models import KINDS, made

FAST = ("llama", "biased", "stretched", "mistral", "qwen2", "qwen3")

SOME = ("llama", "olmo2")
"""one of each decoder; the fast suite leaves the other kinds to the slow one"""


@pytest.fixture(scope="module", params=[*SOME, *slow(*(kind for kind in KINDS if kind not in SOME))])
def model(request: pytest.FixtureRequest) -> Model:
    return made(request.param)


@pytest.fixture(scope="module")
def llama() -> Model:
    return made("llama")


def prompts(*lengths: int) -> list[np.ndarray]:
    return [np.random.default_rng(length).integers(3, 32, length) for length in lengths]


@pytest.mark.parametrize(
    ("counter", "key", "said"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
         (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)  # fmt: skip
def test_philox_gives_the_published_answers(
    counter: tuple[int, ...], key: tuple[int, int], said: tuple[int, ...]
) -> None:
    """Known answers that come with Random123, of Salmon et al."""
    a, b, c, d = (np.array([word], dtype=np.uint64) for word in counter)
    assert tuple(int(word[0]) for word in philox((a, b, c, d), key)) == said


def test_draws_are_uniform_and_each_rows_own() -> None:
    rows = np.array([0, 1, 2**40, 7])
    whole = uniform(3, 1, rows, 5001)
    assert np.array_equal(uniform(3, 1, rows[::-1], 10), whole[::-1, :10])
    assert kstest(whole.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.asarray(np.corrcoef(whole))[np.triu_indices(4, 1)]).max() < 0.06
    for seed, stream in ((4, 1), (3 + 2**33, 1), (3, 2)):
        assert not np.isin(uniform(seed, stream, rows, 100), whole).any()


def test_who_is_decoded_how() -> None:
    for kind in KINDS:
        assert isinstance(decoder_of(made(kind), 40, Workspace()), LlamaDecoder if kind in FAST else CachedDecoder), (
            kind
        )


@pytest.mark.parametrize("name", ["minimax", "xlstm", "rwkv"])
def test_a_model_without_a_usual_cache_reads_all_again(name: str) -> None:
    """It would swallow ours, and draw every token as if nothing came before it; that this is slow can be said."""
    model = zoo.tiny(name)
    assert str(note_on_cache(model)).startswith(f"{type(model).__name__} takes no cache of transformers' usual kind")
    assert note_on_cache(made("llama")) is None
    given = prompts(1, 5, 9, 5)
    found = sample(model, given, Sampling(new_tokens=6, temperature=0))
    for row, prompt in enumerate(given):
        ids = torch.as_tensor(np.asarray(prompt))[None]
        for step in range(6):
            with torch.no_grad():
                logits = model(ids, use_cache=False).logits[0, -1]
            assert int(found.tokens[row, step]) == int(logits.argmax())
            assert found.log_p[row, step] == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-4)
            ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)


@pytest.mark.slow
def test_greedy_is_that_of_transformers(model: Model) -> None:
    """Token for token in float32, for prompts of different lengths in one batch."""
    given = prompts(1, 5, 9, 5, 17)
    found = sample(model, given, Sampling(new_tokens=24, temperature=0))
    for row, prompt in enumerate(given):
        ids = torch.from_numpy(prompt)[None]
        theirs = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        assert found.tokens[row].tolist() == theirs[0, len(prompt) :].tolist()


def test_log_probabilities_are_those_of_the_text(model: Model) -> None:
    """Under the model itself, whatever the temperature and the cut it was drawn with."""
    given = prompts(3, 11, 3)
    settings = Sampling(new_tokens=40, temperature=1.7, top_p=0.9, batch=2, stop=(5,), seed=3)
    found = sample(model, given, settings)
    for row, prompt in enumerate(given):
        length = int(found.lengths[row])
        theirs = forced(model, prompt, found.tokens[row, :length])
        assert found.log_p[row, :length] == pytest.approx(theirs, abs=2e-5)
        assert not found.log_p[row, length:].any()


def forced(model: Model, prompt: np.ndarray, drawn: np.ndarray) -> Any:
    """Log-probabilities [N] of what was drawn after a prompt, in one pass."""
    whole = torch.from_numpy(np.concatenate([prompt, drawn]))[None].long()
    with torch.no_grad():
        log_p = model(input_ids=whole).logits[0].float().log_softmax(-1)
    return log_p[len(prompt) - 1 : -1].gather(1, whole[0, len(prompt) :, None]).squeeze(1).numpy()


@pytest.mark.parametrize("student", ["rounded", *slow("upcycled", "pruned")])
def test_students_of_every_kind_write(student: str) -> None:
    """Weights that are rounded on the way, experts, and blocks of which some are gone."""
    model, given = made("llama"), prompts(3, 8)
    if student == "rounded":
        quantise_aware(model, Format(name="int4", group=16))
    elif student == "pruned":
        model = keep_layers(model, [1])
    else:
        experts = Experts(routed=5, per_token=2, shared=1, neurons=8)
        model = upcycle(model, experts, torch.arange(64).reshape(2, 32) % 32, 0).float().eval()
    found = sample(model, given, Sampling(new_tokens=12))
    for row, prompt in enumerate(given):
        assert found.log_p[row] == pytest.approx(forced(model, prompt, found.tokens[row]), abs=2e-5)


@pytest.mark.parametrize("kind", ["llama", *slow("olmo2")])
@pytest.mark.parametrize("cut", [{}, {"top_k": 5}, {"top_p": 0.6, "temperature": 1.5}, *slow({"temperature": 2.0})])
def test_frequencies_are_the_models_probabilities(kind: str, cut: dict[str, Any]) -> None:
    """Two tokens of 4,000 rows: each of them as often as the model says, given what came before."""
    model, (prompt,) = made(kind), prompts(4)
    settings = Sampling(new_tokens=2, seed=1, batch=4000, **cut)
    found = sample(model, [prompt] * 4000, settings)
    first, counts = np.unique(found.tokens[:, 0], return_counts=True)
    for place, begun in ((0, []), (1, [int(first[counts.argmax()])])):
        mine = found.tokens[:, 0] == begun[0] if begun else np.ones(4000, dtype=bool)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *begun]])).logits[0, -1]
        p = allowed(logits, settings)
        seen = np.bincount(found.tokens[mine, place], minlength=32)
        assert not seen[p == 0].any(), "an id that was cut came"
        common = p * mine.sum() >= 5
        together = np.append(seen[common], seen[~common].sum()), np.append(p[common], p[~common].sum()) * mine.sum()
        filled = together[1] > 0
        assert chisquare(together[0][filled], together[1][filled]).pvalue > 1e-3


def allowed(logits: torch.Tensor, settings: Sampling) -> np.ndarray:
    """What transformers' own warpers leave, in the order of its generate."""
    scores = logits[None] / settings.temperature
    if settings.top_k:
        scores = transformers.TopKLogitsWarper(settings.top_k)(None, scores)
    if settings.top_p < 1:
        scores = transformers.TopPLogitsWarper(settings.top_p)(None, scores)
    found: np.ndarray = np.asarray(scores.softmax(-1)[0].double())
    return np.asarray(found / found.sum())


class TestRows:
    @pytest.mark.slow
    def test_a_rows_text_is_its_own(self, model: Model) -> None:
        """Alone, in small batches that others leave and join, in another order: the same tokens."""
        given, settings = prompts(7, 2, 12, 7, 4, 9, 3), Sampling(new_tokens=30, stop=(4, 9, 11), seed=5)
        whole = sample(model, given, settings)
        assert len(set(whole.lengths.tolist())) > 2, "rows end at different places"
        for batch in (1, 3):
            few = sample(model, given, Sampling(new_tokens=30, stop=(4, 9, 11), seed=5, batch=batch))
            assert np.array_equal(few.tokens, whole.tokens)
            assert few.log_p == pytest.approx(whole.log_p, abs=2e-5)
        some = [5, 0, 3]
        apart = sample(model, [given[row] for row in some], settings, rows=some)
        assert np.array_equal(apart.tokens, whole.tokens[some])

    def test_more_tokens_only_go_on(self, llama: Model) -> None:
        short, long = (sample(llama, prompts(5, 6), Sampling(new_tokens=new, seed=2)) for new in (8, 40))
        assert np.array_equal(long.tokens[:, :8], short.tokens)

    def test_seeds_and_rows_draw_differently(self, llama: Model) -> None:
        (prompt,) = prompts(5)
        first, again, other = (sample(llama, [prompt] * 2, Sampling(new_tokens=20, seed=seed)) for seed in (0, 0, 1))
        assert np.array_equal(first.tokens, again.tokens)
        assert not np.array_equal(first.tokens, other.tokens)
        assert not np.array_equal(first.tokens[0], first.tokens[1])

    def test_they_end_with_a_stop_id(self, model: Model) -> None:
        found = sample(model, prompts(4, 4, 6, 8), Sampling(new_tokens=60, stop=(3, 7), seed=1))
        assert (found.lengths < 60).any()
        for tokens, length in zip(found.tokens, found.lengths, strict=True):
            assert not np.isin(tokens[: length - 1], (3, 7)).any()
            assert length == 60 or tokens[length - 1] in (3, 7)
            assert (tokens[length:] == -1).all()

    def test_finished_rows_are_told(self, llama: Model) -> None:
        told: list[float] = []
        sample(llama, prompts(*[4] * 9), Sampling(new_tokens=30, stop=(3, 7), batch=4),
               advance=lambda amount, note="": told.append(amount))  # fmt: skip
        assert sum(told) == 9

    def test_a_row_that_is_carried_along_leaves_no_trace(self, llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rows that have ended are drawn on until enough of them can leave together."""
        given, settings = prompts(*range(1, 13)), Sampling(new_tokens=50, stop=(3, 4, 7), seed=2, batch=5)
        found = []
        for often in (1, 1000):
            monkeypatch.setattr(rows, "REGROUP_AT", often)
            found.append(sample(llama, given, settings))
        assert np.array_equal(found[0].tokens, found[1].tokens)


ATTEMPTS: dict[str, Any] = {"new_tokens": 12, "stop": (4, 9, 11), "seed": 5, "temperature": 0.5}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The slots of every step that is made from now on."""
    asked: list[int] = []
    step = LlamaDecoder.step

    def counting(self: LlamaDecoder, tokens: torch.Tensor) -> torch.Tensor:
        asked.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(LlamaDecoder, "step", counting)
    return asked


class TestAttempts:
    """Rows that begin alike."""

    @pytest.fixture
    def given(self) -> list[np.ndarray]:
        return [prompt for prompt in prompts(7, 3, 7, 5) for _ in range(30)]

    @pytest.mark.slow
    def test_sharing_changes_no_text(self, model: Model) -> None:
        """Alone, all at once, and in so few slots that texts are laid aside and read again."""
        given = [prompt for prompt in prompts(7, 3, 7) for _ in range(6)]
        whole = sample(model, given, Sampling(**ATTEMPTS))
        few = sample(model, given, Sampling(**ATTEMPTS, batch=4))
        assert np.array_equal(few.tokens, whole.tokens)
        assert few.log_p == pytest.approx(whole.log_p, abs=2e-5)
        for row in (0, 11, 17):
            alone = sample(model, [given[row]], Sampling(**ATTEMPTS), rows=[row])
            assert np.array_equal(alone.tokens[0], whole.tokens[row])

    def test_the_model_is_asked_once_for_each_text(
        self, llama: Model, given: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = counted(monkeypatch)
        found = sample(llama, given, Sampling(**ATTEMPTS, batch=200))
        texts = {
            (prompt.tobytes(), *found.tokens[row, :place].tolist())
            for row, prompt in enumerate(given) for place in range(found.lengths[row])
        }  # fmt: skip
        assert asked[0] == 3, "two of the four prompts are equal"
        assert len(texts) <= sum(asked) < 1.5 * len(texts) < found.lengths.sum()

    def test_no_more_texts_at_work_than_the_batch(
        self, llama: Model, given: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = counted(monkeypatch)
        sample(llama, given, Sampling(**ATTEMPTS | {"temperature": 2.0}, batch=16))
        assert 16 <= max(asked) <= 16 + 16 // rows.REGROUP_AT, "spare slots are an eighth of them at most"


def test_long_vocabularies_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, draws = torch.randn(10, 50), torch.rand(10, 3, dtype=torch.float64)
    for settings in (Sampling(vocabulary=40), Sampling(top_k=3), Sampling(temperature=0)):
        whole = choose(logits, draws, settings)
        monkeypatch.setattr("flashstill.distill.generate.drawing.LOGITS_AT_A_TIME", 120)
        parts = choose(logits, draws, settings)
        monkeypatch.undo()
        assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    assert int(choose(logits, torch.full((10, 1), 1 - 2**-53).double(), Sampling(vocabulary=40))[0].max()) < 40


def test_bfloat16_and_the_mode_it_was_in(llama: Model) -> None:
    model = made("llama").to(torch.bfloat16).train()
    found = sample(model, prompts(3, 8), Sampling(new_tokens=20))
    assert model.training
    assert (found.lengths == 20).all()
    assert found.log_p.mean() == pytest.approx(
        sample(llama, prompts(3, 8), Sampling(new_tokens=20)).log_p.mean(), abs=1
    )


@pytest.mark.parametrize(
    ("given", "settings", "said"),
    [
        ([[]], {}, "a prompt is empty"),
        ([[1, 32]], {}, "holds token 32, but the model knows only 32"),
        ([[1] * 100], {"new_tokens": 29}, "exceed the model's 128 positions"),
        ([[1]], {"stop": (32,)}, "stop ids and vocabulary must lie within"),
        ([[1]], {"temperature": -1.0}, r"give 0 \(greedy\) or more"),
        ([[1]], {"top_p": 0.0}, "more than 0 and at most 1"),
        ([[1]], {"new_tokens": 0}, "at least 1"),
        ([[1]], {"top_k": -1}, "must not be negative"),
    ],
)
def test_one_sentence(llama: Model, given: list[list[int]], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        sample(llama, given, Sampling(**settings))


def test_nothing_to_continue(llama: Model) -> None:
    assert sample(llama, [], Sampling(new_tokens=3)).tokens.shape == (0, 3)
