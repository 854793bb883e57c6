"""Exact speculative sampling: a draft proposes tokens, the target checks all of them in one pass.

    x_i ~ q_i                                          the draft's distribution, i = 1 ... g
    accept x_i with probability min(1, p_i(x_i) / q_i(x_i)), while all before it were accepted
    at the first rejection                             x ~ max(p_i - q_i, 0), renormalised: the residual
    if all g are accepted                              x ~ p_(g+1)

The text is then distributed as the target's own samples, whatever the draft (Leviathan et al. 2023, theorem 1; Chen et
al. 2023, theorem 1).  Temperature, top-k and top-p apply to p and to q alike, as in vLLM; at temperature 0 a draft is
accepted where it is the target's likeliest token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flashstill.distill.generate.drawing import Sampling, drawn, probabilities
from flashstill.distill.generate.generate import at_rest, checked_prompts
from flashstill.distill.generate.rollback import Reader
from flashstill.distill.models import Model, parts
from flashstill.errors import BadInput
from flashstill.progress import Advance

_STREAM = 0x5BEC  # a random stream separate from other uses of the seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Drafts:
    """Drafted tokens, and the distributions [n, V] that they were drawn from."""

    ids: list[int]
    q: Tensor


class Draws:
    """Draws ids from distributions, and uniforms in [0, 1), in the order of a random stream of one row."""

    def __init__(self, settings: Sampling, row: int) -> None:
        self.settings = settings
        self._random = np.random.default_rng([_STREAM, settings.seed, row])

    def uniform(self) -> float:
        """The next uniform."""
        return float(self._random.random())

    def of(self, p: Tensor) -> int:
        """An id drawn from p [V], which need not sum to 1."""
        return int(drawn(p[None], torch.tensor([[self.uniform()]], dtype=torch.float64, device=p.device)))


class Drafter(Protocol):
    """Proposes tokens for one text at a time."""

    def draft(self, text: list[int], hidden: Tensor, count: int, draws: Draws) -> Drafts:
        """`count` tokens after `text` [n], or fewer.  hidden [n - 1, d]: the target's final hidden states of all tokens
        but the last, which it has not read yet."""
        ...


class ModelDrafter:
    """Drafts with a causal language model of the target's vocabulary."""

    def __init__(self, model: Model) -> None:
        self._reader = Reader(model)

    def draft(self, text: list[int], hidden: Tensor, count: int, draws: Draws) -> Drafts:
        """As `Drafter`; the hidden states are not used."""
        ids: list[int] = []
        rows: list[Tensor] = []
        for _ in range(count):
            state = self._reader.follow([*text, *ids])[-1:]
            rows.append(probabilities(self._reader.logits(state), draws.settings))
            ids.append(draws.of(rows[-1][0]))
        return Drafts(ids=ids, q=torch.cat(rows))


@dataclass(frozen=True, kw_only=True, slots=True)
class Speculated:
    """R sampled rows of at most N tokens, and what became of their drafts.

    tokens [R, N]: sampled ids including a stop id, then -1.  lengths [R]: number of them.  tried [R, g]: how often a
    draft at position 1 ... g was compared with the target, all before it being accepted; accepted [R, g]: how often it
    was accepted.  steps [R]: passes of the target after the prompt.
    """

    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    tried: npt.NDArray[np.int64]
    accepted: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]


def speculate(
    model: Model,
    drafter: Drafter,
    prompts: Sequence[Sequence[int] | np.ndarray],
    settings: Sampling,
    draft_tokens: int,
    rows: Sequence[int] | None = None,
    advance: Advance | None = None,
) -> Speculated:
    """Sample a continuation of every prompt from `model`, drafting `draft_tokens` tokens per step; one row at a time.

    rows: an id per prompt that determines its random draws; by default its index.  advance: called with the number of
    rows that finished.  Raises BadInput for an empty prompt, an unknown token id, or more positions than the model has.
    """
    if draft_tokens < 1:
        raise BadInput(f"draft tokens must be at least 1, not {draft_tokens}")
    prompt_ids = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
    checked_prompts(model, prompt_ids, settings)
    texts: list[list[int]] = []
    tried, accepted = (np.zeros((len(prompt_ids), draft_tokens), dtype=np.int64) for _ in range(2))
    steps = np.zeros(len(prompt_ids), dtype=np.int64)
    with at_rest(model), torch.no_grad():
        for index, prompt in enumerate(prompt_ids):
            draws = Draws(settings, index if rows is None else rows[index])
            row = _Row(model, drafter, prompt.tolist(), draws)
            while row.goes_on:
                compared, agreed = row.step(draft_tokens)
                tried[index, :compared] += 1
                accepted[index, :agreed] += 1
                steps[index] += 1
            texts.append(row.new)
            if advance is not None:
                advance(1)
    tokens = np.full((len(texts), settings.new_tokens), -1, dtype=np.int32)
    for place, text in zip(tokens, texts, strict=True):
        place[: len(text)] = text
    return Speculated(tokens=tokens, lengths=(tokens >= 0).sum(1), tried=tried, accepted=accepted, steps=steps)


class _Row:
    """One text: `new` are its sampled tokens; the target has read all of it but the last token."""

    def __init__(self, model: Model, drafter: Drafter, prompt: list[int], draws: Draws) -> None:
        self._reader, self._drafter, self._draws = Reader(model), drafter, draws
        self._text, self._begun, self._settings = list(prompt), len(prompt), draws.settings
        head = parts(model).head
        self._hidden = head.weight.new_zeros((0, head.shape[1]))
        if len(prompt) > 1:
            self._hidden = self._reader.read(prompt[:-1])

    @property
    def new(self) -> list[int]:
        return self._text[self._begun :]

    @property
    def goes_on(self) -> bool:
        new = self.new
        return len(new) < self._settings.new_tokens and (not new or new[-1] not in self._settings.stop)

    def step(self, draft_tokens: int) -> tuple[int, int]:
        """Append the accepted drafts and one more token; returns how many drafts were compared, and accepted."""
        left = self._settings.new_tokens - len(self.new)
        drafts = self._drafter.draft(self._text, self._hidden, min(draft_tokens, left), self._draws)
        hidden = self._reader.read([self._text[-1], *drafts.ids])
        p = probabilities(self._reader.logits(hidden), self._settings)
        agreed, last = verify(p, drafts, self._draws)
        fresh = [*drafts.ids[:agreed], last]
        ends = [place for place, token in enumerate(fresh) if token in self._settings.stop]
        fresh = fresh[: min([left, *(place + 1 for place in ends[:1])])]
        compared = min(agreed + 1, len(drafts.ids), len(fresh))
        self._reader.forget(len(drafts.ids) - agreed)
        self._text += fresh
        self._hidden = torch.cat([self._hidden, hidden[: agreed + 1]])
        return compared, min(agreed, len(fresh))


def verify(p: Tensor, drafts: Drafts, draws: Draws) -> tuple[int, int]:
    """How many drafts are accepted, and the token after them. p [n+1, V]: the target's distributions at n drafts."""
    for place, token in enumerate(drafts.ids):
        ratio = float(p[place, token]) / max(float(drafts.q[place, token]), torch.finfo(torch.float32).tiny)
        if draws.uniform() >= ratio:
            return place, draws.of(residual(p[place], drafts.q[place]))
    return len(drafts.ids), draws.of(p[len(drafts.ids)])


def residual(p: Tensor, q: Tensor) -> Tensor:
    """max(p - q, 0) [V]: what a rejected draft is replaced from; p itself where rounding leaves nothing of it."""
    left = (p - q).clamp_(min=0.0)
    return left if float(left.sum()) > 0.0 else p
