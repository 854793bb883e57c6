"""Batches of rows that are continued token by token; finished ones leave, and new prompts take their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flashstill.distill.losses import Workspace
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
    space: Workspace | None = None,
) -> Samples:
    """Continue every prompt; they may be of different lengths.

    rows: an id for each, of which its draws are a function; its place by default.  advance: told of finished rows.
    space: memory of the caches, for a caller that samples again and again.
    Raises BadInput for an empty prompt, an unknown token, or more positions than the model has.
    """
    held = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
    longest = _checked(model, held, settings)
    if not held:
        return _Rows([], [], settings, torch.device("cpu")).samples
    with _at_rest(model), torch.no_grad():
        decoder = decoder_of(model, longest, space or Workspace())
        table = _Rows(held, list(range(len(held))) if rows is None else rows, settings, parts(model).head.device)
        while table.goes_on:
            table.regroup(decoder)
            while not table.wants_regrouping:
                table.add(*choose(decoder.step(table.inputs), table.draws, settings), advance)
    return table.samples


def decoder_of(model: Model, longest: int, space: Workspace) -> Decoder:
    """The fastest way to decode `model` up to `longest` positions."""
    return LlamaDecoder(model, longest, space) if is_plain(model, longest) else CachedDecoder(model)


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

    @property
    def goes_on(self) -> bool:
        """Whether anything is left to do."""
        return bool(self.waiting) or self._finished < len(self._row)

    def regroup(self, decoder: Decoder) -> None:
        """Let rows that have ended go, and those that wait take their places."""
        ended, kept = self._done.nonzero().squeeze(1), (~self._done).nonzero().squeeze(1)
        new = self._next(self.settings.batch - len(kept) if decoder.joins or not len(kept) else 0, decoder.joins)
        prompts = [self.prompts[row] for row in new]
        if len(new) == len(ended) > 0 and decoder.replace(ended, prompts):
            self._put(ended, new)
            return
        decoder.regroup(kept, prompts)
        behind = torch.arange(len(kept), len(kept) + len(new), device=self.device)
        for name in ("_row", "_count", "_done", "inputs", "_uniforms"):
            held = getattr(self, name)
            setattr(self, name, torch.cat([held[kept], held.new_zeros((len(new), *held.shape[1:]))]))
        self._put(behind, new)

    def _put(self, slots: Tensor, new: list[int]) -> None:
        """Rows begin in these slots."""
        self._row[slots] = torch.tensor(new, dtype=torch.int64, device=self.device)
        last = [self.prompts[row][-1] for row in new]
        self.inputs[slots] = torch.tensor(last, dtype=torch.int64, device=self.device)
        self._count[slots], self._done[slots], self._finished = 0, False, 0
        if self.settings.temperature and new:
            drawn = uniforms(self.settings, [self.ids[row] for row in new])
            self._uniforms[slots, :-1] = drawn.to(self.device)

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
