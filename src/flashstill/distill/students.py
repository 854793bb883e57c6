"""Students cut from the teacher by depth: which blocks to keep, by measured importance.

Block influence (Men et al. 2024, "ShortGPT", equation 1): 1 - cos(x_in, x_out) of a block, averaged over tokens of
*training* text; a block that hardly turns its input is a candidate to go.

Greedy search: drop, one at a time, the block whose loss raises KL(teacher || pruned) least.  Trying every block at
every step costs depth^2/2 passes; only the `candidates` blocks of least influence are tried, the influence being
measured again on the pruned model after each drop.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from flashstill.distill.losses import forward_kl
from flashstill.distill.models import Model, decoder_layers, parts
from flashstill.distill.signals import hidden_states
from flashstill.errors import BadInput
from flashstill.progress import Advance, Progress


def block_influence(model: Model, tokens: Tensor) -> list[float]:
    """1 - cosine of each block's input and output, mean over the tokens [B, L]; one forward pass."""
    influence: list[float] = []

    def watch(module: nn.Module, args: tuple[Tensor, ...], output: object) -> None:
        turned = output[0] if isinstance(output, tuple) else output
        assert isinstance(turned, Tensor)
        cosine = torch.cosine_similarity(args[0].float(), turned.float(), dim=-1)
        influence.append(1.0 - float(cosine.mean()))

    handles = [block.register_forward_hook(watch) for block in decoder_layers(model)]
    try:
        with torch.inference_mode():
            hidden_states(model, tokens)
    finally:
        for handle in handles:
            handle.remove()
    return influence


def order_by_influence(model: Model, tokens: Tensor) -> list[int]:
    """Block indices from the least to the most influential: the order in which to drop them."""
    influence = block_influence(model, tokens)
    return sorted(range(len(influence)), key=lambda index: influence[index])


def greedy_drops(model: Model, tokens: Tensor, drops: int, candidates: int, progress: Progress) -> list[int]:
    """The first `drops` blocks to drop, in order, each the one whose loss hurts the KL to the teacher least."""
    blocks = list(decoder_layers(model))
    if not 0 <= drops < len(blocks):
        raise BadInput(f"cannot drop {drops} of {len(blocks)} blocks")
    head = parts(model).head
    with torch.inference_mode():
        reference = hidden_states(model, tokens) @ head.T

        def kl_without(dropped: set[int]) -> float:
            with _only(model, [block for index, block in enumerate(blocks) if index not in dropped]):
                logits = hidden_states(model, tokens) @ head.T
            pairs = zip(torch.split(logits.flatten(0, 1), 256), torch.split(reference.flatten(0, 1), 256), strict=True)
            return float(torch.cat([forward_kl(z.float(), y.float()) for z, y in pairs]).mean())

        dropped: list[int] = []
        with progress.task("search for blocks to drop", drops, "blocks") as advance:
            for _ in range(drops):
                _drop_one(model, blocks, tokens, dropped, candidates, kl_without, advance)
    return dropped


def _drop_one(
    model: Model,
    blocks: list[nn.Module],
    tokens: Tensor,
    dropped: list[int],
    candidates: int,
    kl_without: Callable[[set[int]], float],
    advance: Advance,
) -> None:
    kept = [index for index in range(len(blocks)) if index not in dropped]
    with _only(model, [blocks[index] for index in kept]):
        influence = block_influence(model, tokens)
    shortlist = sorted(range(len(kept)), key=lambda position: influence[position])[:candidates]
    trials = {kept[position]: kl_without({*dropped, kept[position]}) for position in shortlist}
    best = min(trials, key=lambda index: trials[index])
    dropped.append(best)
    advance(1, f"KL {trials[best]:.3f}")


class _only(AbstractContextManager[None]):
    """Run the model for a while with another list of blocks, sharing their weights."""

    def __init__(self, model: Model, blocks: list[nn.Module]) -> None:
        self._body, self._blocks = model.get_decoder(), blocks
        self._original, self._config = self._body.layers, self._body.config

    def __enter__(self) -> None:
        import copy

        self._body.layers = nn.ModuleList(self._blocks)
        self._body.config = copy.copy(self._config)
        self._body.config.num_hidden_layers = len(self._blocks)

    def __exit__(self, *_: object) -> None:
        self._body.layers, self._body.config = self._original, self._config


def kept_blocks(depth: int, drops: list[int], keep: int) -> list[int]:
    """Ascending indices of the `keep` blocks that remain when the first depth - keep drops are made."""
    if not 1 <= keep <= depth:
        raise BadInput(f"a student cannot keep {keep} of the teacher's {depth} blocks; give 1 to {depth}")
    gone = set(drops[: depth - keep])
    return [index for index in range(depth) if index not in gone]
