"""On-policy batches, sampled from the student: generalised knowledge distillation.

Agarwal et al. 2024, "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", algorithm 1:

    with probability mix a window is the current student's continuation of its first tokens; otherwise it is the
    text itself.  Of the sampled windows a share `replay` is taken from the last `buffer` ones.

The choice is random per window (in the paper per step), so that every step has both kinds.  The new windows of `every`
steps are sampled in one batch by the student of the first of these steps, since decoding small batches is slow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.data.packing import Packed
from flashstill.distill.data.prompts import prompt_for
from flashstill.distill.generate import Sampling, continued, sample
from flashstill.distill.losses import Workspace
from flashstill.distill.models import Model
from flashstill.distill.training.batches import Batch, Student, take, window_order
from flashstill.distill.training.sharded import World
from flashstill.errors import BadInput

Sampler = Callable[[Model, Sequence[np.ndarray], Sequence[int]], np.ndarray]
"""(student, R prompts, R row ids) -> continuations [R, new_tokens], -1 behind the end: samples elsewhere"""
_STREAM = 0x0E  # a random stream separate from other uses of the seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixing:
    """mix, replay: shares in [0, 1]; buffer: windows; every: steps; prompt_tokens: length of the prompt of a window."""

    mix: float = 0.5
    replay: float = 0.0
    buffer: int = 1024
    every: int = 1
    prompt_tokens: int = 32


class OnPolicy:
    """A source of batches. Its state: sampled windows, for replay and for the coming steps."""

    def __init__(
        self,
        packed: Packed,
        per_step: int,
        seed: int,
        mixing: Mixing,
        sampling: Sampling,
        world: World,
        sampler: Sampler | None = None,
    ) -> None:
        """sampler: continues the prompts in this process's stead; one process only."""
        if sampler and world.size > 1:
            raise BadInput("regime.rollouts is for one process: leave torchrun out, or regime.rollouts")
        if mixing.prompt_tokens + sampling.new_tokens > packed.length + 1:
            raise BadInput(
                f"{mixing.prompt_tokens} prompt tokens and {sampling.new_tokens} new ones do not fit a window of"
                f" {packed.length + 1}"
            )
        self.packed, self.per_step, self.seed = packed, per_step, seed
        self.mixing, self.sampling, self.world, self.sampler = mixing, sampling, world, sampler
        self._old, self._new = _nothing(packed.length), _nothing(packed.length)
        self._space = Workspace()

    @property
    def window_length(self) -> int:
        return self.packed.length

    @property
    def key(self) -> dict[str, object]:
        return {"packing": self.packed.hash, "mixing": asdict(self.mixing), "sampling": self.sampling.key}

    def batch(self, step: int, student: Student) -> Batch:
        begun = time.perf_counter()
        first = step - step % self.mixing.every
        if step == first:
            self._sample(first, student)
        seconds = time.perf_counter() - begun
        text = take(self.packed, window_order(self.seed, self.packed.windows, step, self.per_step))
        fresh, again, pick = self._coins(step)
        before = sum(int(self._coins(earlier)[0].sum()) for earlier in range(first, step))
        tokens, mask = text.tokens.clone(), text.mask.clone()
        for (held_tokens, held_mask), places, rows in (
            (self._new, fresh, before + np.arange(fresh.sum())),
            (self._old, again, pick[again]),
        ):
            tokens[places], mask[places] = held_tokens[rows].long(), held_mask[rows]
        own = fresh | again
        made = {
            "sampled_share": round(float(mask[own].sum() / mask.sum()), 4),
            "replayed_windows": float(again.sum()),
            "sampling_s": round(seconds, 4),
        }
        starts = text.starts
        if starts is not None:
            starts = starts.clone()
            starts[own] = False  # the student continued the whole prompt
        windows = None if own.any() else text.windows
        written = torch.from_numpy(own) if own.any() else None
        return Batch(tokens=tokens, mask=mask, windows=windows, starts=starts, own=written, made=made)

    def _coins(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For the windows of a step: is it sampled, is it replayed, and the buffer index to replay, all [B]."""
        own, again, which = np.random.default_rng([_STREAM, self.seed, step]).random((3, self.per_step))
        waiting = len(self._old[0])
        replayed = (own < self.mixing.mix) & (again < self.mixing.replay) & (waiting > 0)
        return (own < self.mixing.mix) & ~replayed, replayed, (which * waiting).astype(np.int64)

    def _sample(self, first: int, student: Student) -> None:
        """Sample new windows for the steps from `first` on; windows of earlier steps move to the replay buffer."""
        self._old = _last(self._old, self._new, self.mixing.buffer)
        windows: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        for step in range(first, first + self.mixing.every):
            places = np.flatnonzero(self._coins(step)[0])
            windows.append(window_order(self.seed, self.packed.windows, step, self.per_step)[places])
            rows.append(step * self.per_step + places)
        most, turns = self.packed.length, np.concatenate(rows)
        prompts = [
            prompt_for(self.packed, window, turn, self.mixing.prompt_tokens, most)
            for window, turn in zip(np.concatenate(windows).tolist(), turns.tolist(), strict=True)
        ]
        if not prompts:
            self._new = _nothing(self.packed.length)
            return
        drawn = self._shared(student, prompts, turns)
        tokens, mask = continued(prompts, drawn, self.packed.length)
        self._new = torch.from_numpy(tokens), torch.from_numpy(mask)

    def _shared(self, student: Student, prompts: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Each process samples its share of the continuations; all processes receive all of them."""
        if self.sampler:
            return self.sampler(student(), prompts, rows.tolist())
        rank, size = self.world.rank, self.world.size
        share = slice(rank, None, size)
        samples = sample(student(), list(prompts[share]), self.sampling, rows[share].tolist(), space=self._space)
        drawn = np.empty((len(prompts), self.sampling.new_tokens), dtype=np.int32)
        for other, theirs in enumerate(self.world.all_gather(samples.tokens)):
            drawn[other::size] = theirs
        return drawn

    def state(self) -> dict[str, Tensor]:
        (old, old_mask), (new, new_mask) = self._old, self._new
        return {"old": old, "old_mask": old_mask, "new": new, "new_mask": new_mask}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._old, self._new = (state["old"], state["old_mask"]), (state["new"], state["new_mask"])


_Windows = tuple[Tensor, Tensor]  # tokens [N, L+1] in int32, mask [N, L]


def _nothing(length: int) -> _Windows:
    return torch.zeros((0, length + 1), dtype=torch.int32), torch.zeros((0, length), dtype=torch.bool)


def _last(old: _Windows, new: _Windows, most: int) -> _Windows:
    return torch.cat([old[0], new[0]])[-most:], torch.cat([old[1], new[1]])[-most:]
