"""Schedule the rows of a sampling job: waiting, active and finished.

Active rows with the same text so far (64 attempts at one problem at first) share one slot of the decoder batch: the
model computes their logits once, each row draws its own token from them, unchanged in distribution, and the slot is
copied when they differ.  Of more distinct texts than slots some go back to the queue and are prefilled again later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flashstill.distill.generate.cached import Decoder
from flashstill.distill.generate.drawing import Sampling, uniforms
from flashstill.distill.models.devices import widest
from flashstill.progress import Advance

REGROUP_AT = 8  # slots are refilled or dropped once an eighth of them is free (docs/log.md)


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """Results of sampling R rows of at most N new tokens.

    tokens [R, N]: sampled ids including a stop id, then -1.  log_p [R, N]: their log-probabilities at temperature 1
    without top-k or top-p, then 0.  lengths [R]: number of sampled tokens.
    """

    tokens: npt.NDArray[np.int32]
    log_p: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Rows that share one text; its last `drawn` tokens were sampled, those before are the prompt."""

    text: np.ndarray
    rows: Sequence[int]
    drawn: int = 0


class Rows:
    """The A active rows: _row [A], _slot [A], _count [A] (tokens sampled so far), _rank [A] (number within its slot).

    inputs [B]: the last token of every slot, which is the input of the next decode step.
    """

    def __init__(
        self, prompts: Sequence[np.ndarray], ids: Sequence[int], settings: Sampling, device: torch.device
    ) -> None:
        self.prompts, self.ids, self.settings, self.device = prompts, ids, settings, device
        alike: dict[bytes, list[int]] = {}
        for row, prompt in enumerate(prompts):
            alike.setdefault(prompt.tobytes(), []).append(row)
        # longest first: little padding within a batch, and the last batches have short prompts
        groups = [Group(text=prompts[rows[0]], rows=rows) for rows in alike.values()]
        self.waiting = sorted(groups, key=lambda group: -len(group.text))
        size = (len(prompts), settings.new_tokens)
        self._tokens = torch.full(size, -1, dtype=torch.int64, device=device)
        self._log_p = torch.zeros(size, dtype=torch.float32, device=device)
        self._stop = torch.tensor(settings.stop, dtype=torch.int64, device=device)
        empty = torch.empty(0, dtype=torch.int64, device=device)
        self._row, self._slot, self._count, self._rank, self.inputs = empty, empty, empty, empty, empty
        self._uniforms = torch.empty((0, settings.new_tokens), dtype=widest(device), device=device)
        self._used, self._widest = 0, 1
        self._slots_seen = self._rows_seen = self._ended = 0

    @property
    def goes_on(self) -> bool:
        """Whether any row is waiting or active."""
        return bool(self.waiting or len(self._row))

    def fill(self, decoder: Decoder) -> None:
        """Drop empty slots and start waiting groups, once an eighth of the batch is affected."""
        room, idle = self.settings.batch - self._used, len(self.inputs) - self._used
        enough = room * REGROUP_AT >= self.settings.batch and self.waiting and (decoder.joins or not self._used)
        new = self._next(room, decoder.joins) if enough or not self._used else []
        if not new and idle * REGROUP_AT <= len(self.inputs):
            return
        live = self._live
        kept, free = live.nonzero().squeeze(1), (~live).nonzero().squeeze(1)
        texts = [group.text for group in new]
        fits = 0 <= (idle - len(new)) * REGROUP_AT <= len(live)
        if new and fits and decoder.replace(free[: len(new)], texts):
            slots = free[: len(new)]
        else:
            self._move(decoder, kept, kept[:0], texts)
            slots = torch.arange(len(kept), len(kept) + len(new), device=self.device)
        if new:
            self._begin(new, slots)

    def _next(self, room: int, joins: bool) -> list[Group]:
        """Take the groups that start now from the queue, at most `room`; of equal text length unless `joins`.

        The number of active rows is limited to batch times the mean number of rows per slot so far (1 at first).
        """
        share = self._slots_seen / self._rows_seen if self._ended else 1.0
        rows, most = len(self._row), self.settings.batch / share
        new: list[Group] = []
        for group in self.waiting[:room]:
            if new and not joins and len(group.text) != len(new[0].text):
                break
            rows += len(group.rows)
            if rows > most and (new or self._used):
                break
            new.append(group)
        self.waiting = self.waiting[len(new) :]
        return new

    def _move(self, decoder: Decoder, kept: Tensor, copied: Tensor, texts: Sequence[np.ndarray]) -> None:
        """Regroup the decoder into the slots `kept`, then copies of the slots `copied`, then new slots for `texts`."""
        behind = torch.zeros(len(self.inputs), dtype=torch.int64, device=self.device)
        behind[kept] = torch.arange(len(kept), device=self.device)
        every = torch.cat([kept, copied])
        decoder.regroup(every, texts)
        self._slot = behind[self._slot]
        self.inputs = torch.cat([self.inputs[every], self.inputs.new_zeros(len(texts))])

    def _begin(self, new: Sequence[Group], slots: Tensor) -> None:
        """Activate the rows of n groups in the slots [n]."""
        sizes = torch.tensor([len(group.rows) for group in new])
        rows = [row for group in new for row in group.rows]
        drawn = torch.tensor([group.drawn for group in new]).repeat_interleave(sizes)
        last = torch.tensor([int(group.text[-1]) for group in new], dtype=torch.int64)
        if self.settings.temperature:
            draws = uniforms(self.settings, [self.ids[row] for row in rows])
        else:
            draws = torch.zeros((len(rows), self.settings.new_tokens), dtype=torch.float64)
        self.inputs[slots] = last.to(self.device)
        self._row = torch.cat([self._row, torch.tensor(rows, dtype=torch.int64, device=self.device)])
        self._slot = torch.cat([self._slot, slots.repeat_interleave(sizes.to(self.device))])
        self._count = torch.cat([self._count, drawn.to(self.device)])
        self._uniforms = torch.cat([self._uniforms, draws.to(self._uniforms)])
        self._number()

    @property
    def _live(self) -> Tensor:
        """[B]: whether each slot has at least one active row."""
        live = torch.zeros(len(self.inputs), dtype=torch.bool, device=self.device)
        live[self._slot] = True
        return live

    def _number(self) -> None:
        """Number the rows within each slot, and count the used slots and the most rows per slot."""
        ordered, order = self._slot.sort(stable=True)
        rank = torch.arange(len(order), device=self.device) - torch.searchsorted(ordered, ordered)
        self._rank = torch.empty_like(order).scatter_(0, order, rank)
        self._used = int((rank == 0).sum())
        self._widest = int(rank.max()) + 1 if len(rank) else 1

    @property
    def draws(self) -> Tensor:
        """Uniforms [B, K] of this step, where K is the largest number of rows in a slot."""
        uniforms = self._uniforms.new_zeros((len(self.inputs), self._widest))
        uniforms[self._slot, self._rank] = self._uniforms.gather(1, self._count[:, None]).squeeze(1)
        return uniforms

    def add(self, decoder: Decoder, ids: Tensor, log_p: Tensor, advance: Advance | None) -> None:
        """Append a token to every active row, from ids and log_p [B, K] by slot and rank, and remove finished rows.

        advance: called with the number of rows that finished.
        """
        self._slots_seen += self._used
        self._rows_seen += len(self._row)
        tokens = ids[self._slot, self._rank]
        self._tokens[self._row, self._count] = tokens
        self._log_p[self._row, self._count] = log_p[self._slot, self._rank].float()
        self._count += 1
        goes_on = self._count < self.settings.new_tokens
        if len(self._stop):
            goes_on &= ~torch.isin(tokens, self._stop)
        ended = len(goes_on) - int(goes_on.sum())
        if ended:
            self._keep(goes_on)
            tokens = tokens[goes_on]
            self._ended += ended
            if advance is not None:
                advance(ended)
        if self._widest > 1:
            self._part(decoder, tokens)
        else:
            self._used = len(self._row)
            self.inputs[self._slot] = tokens

    def _keep(self, rows: Tensor) -> None:
        """Keep only the active rows where the mask `rows` [A] is true."""
        for name in ("_row", "_slot", "_count", "_rank", "_uniforms"):
            setattr(self, name, getattr(self, name)[rows])

    def _part(self, decoder: Decoder, tokens: Tensor) -> None:
        """Split slots whose rows drew different tokens [A]: one copy per distinct token, or back to the queue if the
        batch is full."""
        known = int(tokens.max()) + 1 if len(tokens) else 1
        texts, text = torch.unique(self._slot * known + tokens, return_inverse=True)
        source, token = texts // known, texts % known
        copied = torch.zeros_like(source, dtype=torch.bool)
        copied[1:] = source[1:] == source[:-1]
        parted = int(copied.sum())
        over = len(texts) - self.settings.batch
        if over > 0:
            aside = torch.zeros_like(copied)
            aside[copied.nonzero().squeeze(1)[parted - over :]] = True
            self._lay_aside(text, aside.nonzero().squeeze(1).tolist())
            stays = ~aside[text]
            self._keep(stays)
            behind = torch.cumsum(~aside, 0) - 1
            text, source, token, copied = behind[text[stays]], source[~aside], token[~aside], copied[~aside]
            parted -= over
        slots = source
        if parted:
            moved, new = self._copied(decoder, source[copied])
            slots = moved[source]
            slots[copied] = new
        self._slot = slots[text]
        self.inputs[slots] = token
        self._number()

    def _copied(self, decoder: Decoder, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Copy the slots `sources` [n]; returns the new index of every slot [B] and the slots of the copies [n]."""
        live = self._live
        kept, free = live.nonzero().squeeze(1), (~live).nonzero().squeeze(1)
        count, moved = len(sources), torch.arange(len(live), device=self.device)
        if len(free) >= count and decoder.copy(sources, free[:count]):
            return moved, free[:count]
        spare = (len(kept) + count) // REGROUP_AT if decoder.joins else 0  # room for later copies
        moved[kept] = torch.arange(len(kept), device=self.device)
        self._move(decoder, kept, torch.cat([sources, sources[:1].expand(spare)]), [])
        return moved, torch.arange(len(kept), len(kept) + count, device=self.device)

    def _lay_aside(self, text: Tensor, places: Sequence[int]) -> None:
        """Put the rows whose text index (text [A]) is in `places` back in the queue, to be prefilled again later."""
        finished = []
        for place in places:
            at = (text == place).nonzero().squeeze(1)
            rows, drawn = self._row[at].tolist(), int(self._count[at[0]])
            new = self._tokens[rows[0], :drawn].cpu().numpy()
            finished.append(Group(text=np.concatenate([self.prompts[rows[0]], new]), rows=rows, drawn=drawn))
        self.waiting = sorted(finished + self.waiting, key=lambda group: -len(group.text))

    @property
    def samples(self) -> Samples:
        """The sampled tokens as NumPy arrays."""
        tokens = self._tokens.cpu().numpy().astype(np.int32)
        return Samples(tokens=tokens, log_p=self._log_p.cpu().numpy(), lengths=(tokens >= 0).sum(1))
