"""Draft one text with a head on the target's hidden states, with a cache that keeps only the target's own states."""

from __future__ import annotations

import torch
from torch import Tensor

from flashstill.distill.drafts.eagle import Eagle
from flashstill.distill.generate import Drafts, Draws, probabilities


class EagleDrafter:
    """A drafter (generate/speculative.py) of one target.

    The cache holds the pairs of true hidden states and the tokens after them; pairs of own steps are dropped after each
    draft, as the engines do.
    """

    def __init__(self, eagle: Eagle) -> None:
        self._eagle = eagle.eval()
        self._past: tuple[Tensor, Tensor] | None = None
        self._text: list[int] = []
        self._last: Tensor | None = None

    def draft(self, text: list[int], hidden: Tensor, count: int, draws: Draws) -> Drafts:
        """As `Drafter`; no drafts for a text of one token, of which the target has no state yet."""
        nothing = Drafts(ids=[], q=hidden.new_zeros((0, self._eagle.head.rows)))
        if len(text) < 2:
            return nothing
        device = hidden.device
        read = len(self._text)
        if text[:read] != self._text or read >= len(text):
            self._past, read = None, 0
        pairs = max(read - 1, 0)
        tokens = torch.tensor([text[pairs + 1 :]], device=device)
        states, past = self._eagle.read(hidden[None, pairs:], tokens, self._past)
        self._past, self._text = past, list(text)
        ids: list[int] = []
        rows: list[Tensor] = []
        for place in range(count):
            rows.append(probabilities(self._eagle.head.logits(states[:, -1]), draws.settings))
            ids.append(draws.of(rows[-1][0]))
            if place + 1 < count:
                step = torch.tensor([[ids[-1]]], device=device)
                states, past = self._eagle.read(states[:, -1:], step, past)
        return Drafts(ids=ids, q=torch.cat(rows)) if rows else nothing
