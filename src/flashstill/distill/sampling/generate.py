"""Batches of rows that are continued token by token; finished ones leave, and new prompts take their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flashstill.distill.models import Model, parts
from flashstill.distill.sampling.cached import CachedDecoder, Decoder
from flashstill.distill.sampling.drawing import Sampling, choose, uniforms
from flashstill.distill.sampling.llama import LlamaDecoder, is_plain
from flashstill.errors import BadInput
from flashstill.progress import Advance

REGROUP_AT = 8  # rows are regrouped once an eighth of them is finished (docs/log.md)


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """tokens [R, N]: what was drawn, a stop id included, -1 behind the end; log_p [R, N]: of each under the model,
    at temperature 1 and with nothing cut, 0 behind the end; lengths [R]."""

    tokens: npt.NDArray[np.int32]
    log_p: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]


def sample(
    model: Model,
    prompts: Sequence[Sequence[int] | np.ndarray],
    settings: Sampling,
    rows: Sequence[int] | None = None,
    advance: Advance | None = None,
) -> Samples:
    """Continue every prompt; they may be of different lengths.

    rows: an id for each, of which its draws are a function; its place by default.  advance: told of finished rows.
    Raises BadInput for an empty prompt, an unknown token, or more positions than the model has.
    """
    held = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
    longest = _checked(model, held, settings)
    if not held:
        return _Rows([], [], settings, torch.device("cpu")).samples
    with _at_rest(model), torch.no_grad():
        decoder = decoder_of(model, longest)
        table = _Rows(held, list(range(len(held))) if rows is None else rows, settings, parts(model).head.device)
        while (kept := table.to_regroup()) is not None:
            decoder.regroup(kept, table.admit(kept, decoder.joins))
            while not table.wants_regrouping:
                table.add(*choose(decoder.step(table.inputs), table.draws, settings), advance)
    return table.samples


def decoder_of(model: Model, longest: int) -> Decoder:
    """The fastest way to decode `model` up to `longest` positions."""
    return LlamaDecoder(model, longest) if is_plain(model, longest) else CachedDecoder(model)


class _Rows:
    """All rows: those that wait, those at work (slots), and what came out."""

    def __init__(
        self, prompts: Sequence[np.ndarray], ids: Sequence[int], settings: Sampling, device: torch.device
    ) -> None:
        self.prompts, self.ids, self.settings, self.device = prompts, ids, settings, device
        # the longest first: rows beside each other are padded least, and the last batches are short ones
        self.waiting = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
        size = (len(prompts), settings.new_tokens + 1)  # what finished rows still draw goes into the last column
        self._tokens = torch.full(size, -1, dtype=torch.int64, device=device)
        self._log_p = torch.zeros(size, dtype=torch.float32, device=device)
        self._stop = torch.tensor(settings.stop, dtype=torch.int64, device=device)
        empty = torch.empty(0, dtype=torch.int64, device=device)
        self._row, self._count, self._done, self.inputs = empty, empty, empty.bool(), empty
        self._uniforms = torch.empty((0, settings.new_tokens + 1), dtype=torch.float64, device=device)
        self._finished = 0

    @property
    def wants_regrouping(self) -> bool:
        """Whether enough rows are finished."""
        return self._finished * REGROUP_AT >= len(self._row) and self._finished > 0

    def to_regroup(self) -> Tensor | None:
        """The slots whose rows go on; None where all is done."""
        kept = (~self._done).nonzero().squeeze(1)
        return kept if len(kept) or self.waiting else None

    def admit(self, kept: Tensor, joins: bool) -> list[np.ndarray]:
        """Fill the slots behind `kept`; returns their prompts."""
        new = self._next(self.settings.batch - len(kept) if joins or not len(kept) else 0, joins)
        prompts, limit = [self.prompts[row] for row in new], self.settings.new_tokens
        fresh = torch.tensor(new, dtype=torch.int64, device=self.device)
        last = torch.tensor([prompt[-1] for prompt in prompts], dtype=torch.int64, device=self.device)
        self._row = torch.cat([self._row[kept], fresh])
        self._count = torch.cat([self._count[kept], torch.zeros_like(fresh)])
        self.inputs = torch.cat([self.inputs[kept], last])
        self._done = torch.zeros_like(self._row, dtype=torch.bool)
        self._finished = 0
        if self.settings.temperature and new:
            drawn = uniforms(self.settings, [self.ids[row] for row in new])
            drawn = torch.cat([drawn, drawn[:, -1:]], 1).to(self.device)
        else:
            drawn = self._uniforms.new_zeros((len(new), limit + 1))
        self._uniforms = torch.cat([self._uniforms[kept], drawn])
        return prompts

    def _next(self, places: int, joins: bool) -> list[int]:
        """The rows that start now: of one length where they may not be padded."""
        if not joins and self.waiting:
            first = len(self.prompts[self.waiting[0]])
            places = min(places, sum(len(self.prompts[row]) == first for row in self.waiting))
        new, self.waiting = self.waiting[:places], self.waiting[places:]
        return new

    @property
    def _place(self) -> Tensor:
        return torch.where(self._done, self.settings.new_tokens, self._count)

    @property
    def draws(self) -> Tensor:
        """[B] uniforms of this step."""
        return self._uniforms.gather(1, self._place[:, None]).squeeze(1)

    def add(self, tokens: Tensor, log_p: Tensor, advance: Advance | None) -> None:
        """One more token of every row at work."""
        place = self._place
        self._tokens[self._row, place] = tokens
        self._log_p[self._row, place] = log_p.float()
        self._count = self._count + ~self._done
        done = self._done | (self._count >= self.settings.new_tokens)
        if len(self._stop):
            done |= torch.isin(tokens, self._stop)
        self._done, self.inputs = done, tokens
        before, self._finished = self._finished, int(done.sum())
        if advance is not None and self._finished > before:
            advance(self._finished - before)

    @property
    def samples(self) -> Samples:
        """What came out, on the CPU."""
        tokens = self._tokens[:, :-1].cpu().numpy().astype(np.int32)
        log_p = np.where(tokens < 0, np.float32(0), self._log_p[:, :-1].cpu().numpy())
        return Samples(tokens=tokens, log_p=log_p, lengths=(tokens >= 0).sum(1))


@contextmanager
def _at_rest(model: Model) -> Iterator[None]:
    """In eval mode, and back."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _checked(model: Model, prompts: Sequence[np.ndarray], settings: Sampling) -> int:
    """The positions that the longest row needs."""
    known = parts(model).head.shape[0]
    if settings.vocabulary > known or any(not 0 <= each < known for each in settings.stop):
        raise BadInput(f"the model knows {known} tokens; stop ids and vocabulary must lie within them")
    for prompt in prompts:
        if not len(prompt):
            raise BadInput("a prompt is empty; at least one token is needed to continue")
        if prompt.min() < 0 or prompt.max() >= known:
            raise BadInput(f"a prompt holds token {prompt.max()}, but the model knows only {known}")
    longest = max((len(prompt) for prompt in prompts), default=0) + settings.new_tokens
    most = getattr(model.config, "max_position_embeddings", None)
    if most is not None and longest > most:
        raise BadInput(
            f"prompts of up to {longest - settings.new_tokens} tokens and {settings.new_tokens} new ones exceed the"
            f" model's {most} positions"
        )
    return longest
