"""Students cut from the teacher by depth: which blocks to keep, by measured importance.

Block influence (Men et al. 2024, "ShortGPT", equation 1): 1 - cos(x_in, x_out) of a block, averaged over tokens of
*training* text; a block whose output is nearly parallel to its input is a candidate to drop.  Of conversations only
the places count whose targets are learned, there and in the search.

Greedy search: drop, one at a time, the block whose removal raises KL(teacher || pruned) least.  Trying every block at
every step costs depth^2/2 passes; so only the `candidates` blocks of least influence are tried, and influence is
measured again on the pruned model after each drop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.distill.losses import soft_cross_entropy
from flashstill.distill.models import Model, decoder_layers, parts
from flashstill.distill.models.skipping import PROBE_TOKENS, OutputForms, input_of, output_of
from flashstill.distill.signals import hidden_states
from flashstill.distill.students.watching import places_of, run_watched, states_apart
from flashstill.errors import BadInput
from flashstill.progress import Progress

NEEDED = (KeyError, ValueError, RuntimeError, TypeError, AttributeError)
"""what a model raises where a block lacks what another leaves for it"""
_ROWS = 128  # tokens whose logits are in memory at a time


def block_influence(
    model: Model, tokens: Tensor, learned: Tensor | None = None, starts: Tensor | None = None
) -> list[float]:
    """1 - cosine of each block's input and output, mean over the tokens [B, L]; one forward pass.

    learned [B, L]: the places that count, None for all.  starts [B, L]: of documents (watching.py).
    """
    return [influence for influence, _ in _watch(model, tokens, learned, starts)]


def _watch(
    model: Model, tokens: Tensor, learned: Tensor | None = None, starts: Tensor | None = None
) -> list[tuple[float, Tensor]]:
    """The influence and the input [B, L, d] of every block."""
    seen: list[tuple[float, Tensor]] = []

    def look(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any], output: Any) -> None:
        given, turned = input_of(args, inputs), output_of(output)
        cosine = torch.cosine_similarity(given.float(), turned.float(), dim=-1)
        seen.append((1.0 - float(cosine.flatten()[kept].mean()), given))

    kept = places_of(learned)

    handles = [block.register_forward_hook(look, with_kwargs=True) for block in decoder_layers(model)]
    run_watched(model, tokens, handles, starts)
    return seen


def order_by_influence(
    model: Model, tokens: Tensor, learned: Tensor | None = None, starts: Tensor | None = None
) -> list[int]:
    """Block indices from the least to the most influential: the order in which to drop them."""
    influence = block_influence(model, tokens, learned, starts)
    return sorted(range(len(influence)), key=lambda index: influence[index])


def greedy_drops(
    model: Model,
    tokens: Tensor,
    drops: int,
    candidates: int,
    progress: Progress,
    learned: Tensor | None = None,
    can_remain: Callable[[list[int]], bool] | None = None,
    starts: Tensor | None = None,
) -> list[int]:
    """The first `drops` blocks to drop, in order: at each step the one whose removal raises KL to the teacher least.

    learned [B, L]: the places that count, None for all.  can_remain: whether these blocks, ascending, may be those that
    are left in the end; of the candidates for the last step one of which it is true is taken, if there is one.  starts
    [B, L]: of documents (watching.py).

    Removing a candidate does not change the blocks before it, so only the blocks after it are run again, unless blocks
    read what earlier ones leave for them (shared keys and values).
    """
    depth = len(decoder_layers(model))
    if not 0 <= drops < depth:
        raise BadInput(f"cannot drop {drops} of {depth} blocks")
    head = parts(model).head
    dropped: list[int] = []
    alone = True
    forms, places = OutputForms(model, tokens[:1, :PROBE_TOKENS]), places_of(learned)
    with torch.inference_mode(), progress.task("search for blocks to drop", drops, "blocks") as advance:
        logits = head.logits(states_apart(model, tokens, starts).flatten(0, 1)[places])
        teacher = torch.softmax(logits, -1, dtype=torch.float32)
        entropy = _mean_soft_cross_entropy(logits, teacher)
        for _ in range(drops):
            kept = [index for index in range(depth) if index not in dropped]
            alone = alone and _runs_alone(model, tokens[:1], forms, kept)
            with forms.only(kept):
                seen = _watch(model, tokens, learned, starts)
            trials: dict[int, float] = {}
            for index in sorted(kept, key=lambda index: seen[index][0])[:candidates]:
                rest = [each for each in kept if each >= index] if alone else [each for each in kept if each != index]
                start = seen[index][1] if alone else None
                try:
                    with forms.only(rest, start):
                        logits = head.logits(states_apart(model, tokens, starts).flatten(0, 1)[places])
                except NEEDED:
                    continue
                trials[index] = _mean_soft_cross_entropy(logits, teacher)
            if not trials:
                raise BadInput(f"no block can be dropped beside {dropped}: the others depend on each of them")
            ranked = sorted(trials, key=lambda index: trials[index])
            best = ranked[0]
            if can_remain is not None and len(dropped) == drops - 1:
                best = next((each for each in ranked if can_remain([k for k in kept if k != each])), best)
            dropped.append(best)
            advance(1, f"KL {trials[best] - entropy:.3f}")
    return dropped


def _runs_alone(model: Model, tokens: Tensor, forms: OutputForms, kept: list[int]) -> bool:
    """Whether the last half of the blocks gives the same without those before: none reads what these leave for it."""
    if len(kept) < 2:
        return True
    middle = kept[len(kept) // 2]
    with forms.only(kept):
        whole, seen = hidden_states(model, tokens), _watch(model, tokens)
    try:
        with forms.only([each for each in kept if each >= middle], into=seen[middle][1]):
            return torch.allclose(hidden_states(model, tokens), whole, rtol=1e-2, atol=1e-3)
    except NEEDED:
        return False


def _mean_soft_cross_entropy(logits: Tensor, teacher: Tensor) -> float:
    chunks = zip(torch.split(logits, _ROWS), torch.split(teacher, _ROWS), strict=True)
    return float(torch.cat([soft_cross_entropy(z.float(), p) for z, p in chunks]).mean())


def kept_blocks(depth: int, drops: list[int], keep: int) -> list[int]:
    """Ascending indices of the `keep` blocks that remain after dropping the first depth - keep blocks of `drops`."""
    if not 1 <= keep <= depth:
        raise BadInput(f"a student cannot keep {keep} of the teacher's {depth} blocks; give 1 to {depth}")
    gone = set(drops[: depth - keep])
    return [index for index in range(depth) if index not in gone]
