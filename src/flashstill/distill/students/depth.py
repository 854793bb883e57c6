"""Students cut from the teacher by depth: which blocks to keep, by measured importance.

Block influence (Men et al. 2024, "ShortGPT", equation 1): 1 - cos(x_in, x_out) of a block, averaged over tokens of
*training* text; a block whose output is nearly parallel to its input is a candidate to drop.

Greedy search: drop, one at a time, the block whose removal raises KL(teacher || pruned) least.  Trying every block at
every step costs depth^2/2 passes; so only the `candidates` blocks of least influence are tried, and influence is
measured again on the pruned model after each drop.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from flashstill.arch.adapter.edit import depth_changes, set_fields
from flashstill.distill.losses import soft_cross_entropy
from flashstill.distill.models import Model, decoder_layers, parts
from flashstill.distill.signals import hidden_states
from flashstill.distill.students.watching import run_watched
from flashstill.errors import BadInput
from flashstill.progress import Progress

_ROWS = 128  # tokens whose logits are in memory at a time


def block_influence(model: Model, tokens: Tensor) -> list[float]:
    """1 - cosine of each block's input and output, mean over the tokens [B, L]; one forward pass."""
    return [influence for influence, _ in _watch(model, tokens)]


def _watch(model: Model, tokens: Tensor) -> list[tuple[float, Tensor]]:
    """The influence and the input [B, L, d] of every block."""
    seen: list[tuple[float, Tensor]] = []

    def look(module: nn.Module, args: tuple[Tensor, ...], output: object) -> None:
        turned = output[0] if isinstance(output, tuple) else output
        assert isinstance(turned, Tensor)
        cosine = torch.cosine_similarity(args[0].float(), turned.float(), dim=-1)
        seen.append((1.0 - float(cosine.mean()), args[0]))

    handles = [block.register_forward_hook(look) for block in decoder_layers(model)]
    run_watched(model, tokens, handles)
    return seen


def order_by_influence(model: Model, tokens: Tensor) -> list[int]:
    """Block indices from the least to the most influential: the order in which to drop them."""
    influence = block_influence(model, tokens)
    return sorted(range(len(influence)), key=lambda index: influence[index])


def greedy_drops(model: Model, tokens: Tensor, drops: int, candidates: int, progress: Progress) -> list[int]:
    """The first `drops` blocks to drop, in order: at each step the one whose removal raises KL to the teacher least.

    Removing a candidate does not change the blocks before it, so only the blocks after it are run again.
    """
    depth = len(decoder_layers(model))
    if not 0 <= drops < depth:
        raise BadInput(f"cannot drop {drops} of {depth} blocks")
    head = parts(model).head
    dropped: list[int] = []
    with torch.inference_mode(), progress.task("search for blocks to drop", drops, "blocks") as advance:
        logits = head.logits(hidden_states(model, tokens).flatten(0, 1))
        teacher = torch.softmax(logits, -1, dtype=torch.float32)
        entropy = _mean_soft_cross_entropy(logits, teacher)
        for _ in range(drops):
            kept = [index for index in range(depth) if index not in dropped]
            with only_blocks(model, kept):
                seen = _watch(model, tokens)
            shortlist = sorted(range(len(kept)), key=lambda position: seen[position][0])[:candidates]
            trials: dict[int, float] = {}
            for position in shortlist:
                with only_blocks(model, kept[position:], start=seen[position][1]):
                    logits = head.logits(hidden_states(model, tokens).flatten(0, 1))
                trials[kept[position]] = _mean_soft_cross_entropy(logits, teacher)
            best = min(trials, key=lambda index: trials[index])
            dropped.append(best)
            advance(1, f"KL {trials[best] - entropy:.3f}")
    return dropped


def _mean_soft_cross_entropy(logits: Tensor, teacher: Tensor) -> float:
    chunks = zip(torch.split(logits, _ROWS), torch.split(teacher, _ROWS), strict=True)
    return float(torch.cat([soft_cross_entropy(z.float(), p) for z, p in chunks]).mean())


class _Start(nn.Module):
    """Replaces a block: ignores its input and returns a stored hidden state."""

    def __init__(self, block: nn.Module, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden
        kind = getattr(block, "attention_type", None)
        if isinstance(kind, str):  # models that mix attention windows choose the mask by it
            self.attention_type = kind

    def forward(self, *_: object, **__: object) -> Tensor:
        return self.hidden


class only_blocks(AbstractContextManager[None]):
    """Context in which the model runs with only some of its blocks; weights are shared, not copied.

    start: a hidden state [B, L, d] that replaces the output of the first of these blocks.
    """

    def __init__(self, model: Model, kept: list[int], start: Tensor | None = None) -> None:
        self._body, self._kept, self._start = model.get_decoder(), kept, start
        self._original, self._config = self._body.layers, self._body.config

    def __enter__(self) -> None:
        blocks: list[nn.Module] = [self._original[index] for index in self._kept]
        if self._start is not None:
            blocks[0] = _Start(blocks[0], self._start)
        config = copy.copy(self._config)
        set_fields(config, depth_changes(config, self._kept))
        self._body.layers, self._body.config = nn.ModuleList(blocks), config

    def __exit__(self, *_: object) -> None:
        self._body.layers, self._body.config = self._original, self._config


def kept_blocks(depth: int, drops: list[int], keep: int) -> list[int]:
    """Ascending indices of the `keep` blocks that remain after dropping the first depth - keep blocks of `drops`."""
    if not 1 <= keep <= depth:
        raise BadInput(f"a student cannot keep {keep} of the teacher's {depth} blocks; give 1 to {depth}")
    gone = set(drops[: depth - keep])
    return [index for index in range(depth) if index not in gone]
