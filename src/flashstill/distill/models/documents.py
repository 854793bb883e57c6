"""Run a model over windows of several documents, none of which sees another.

Two ways, and the same outputs:

    positions   position ids start again at each document; transformers' attention masks follow from them
    rows        each document is a row of its own, padded on the right, which a causal model cannot see

Whether a model keeps documents apart by their positions is not looked up but tried, as layers that carry a state along
the sequence (Mamba, linear attention, short convolutions) and some older attention layers do not: of two documents, no
output of the second may depend on the first (its gradient is exactly 0), and each must be as if it stood alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.distill.models.loading import Model
from flashstill.distill.models.parts import Parts

Run = Callable[..., Tensor]
"""token ids [B, L], and position_ids [B, L] if given -> outputs [B, L, d]"""
POSITIONS, ROWS = "positions", "rows"
_PROBE = (6, 7)
"""tokens of the two documents that a model is tried on"""
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 0.05
"""largest relative difference of a document's outputs from those of the document alone; for 16-bit formats"""
_known: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def states_of(model_parts: Parts, tokens: Tensor, starts: Tensor | None = None, one_pass: bool = False) -> Tensor:
    """Final hidden states [B, L, d] of token ids [B, L]; starts [B, L]: nonzero where a document begins, None where
    each row is one document.  one_pass: call the body once even if that needs more memory, for sharded models."""
    return kept_apart(model_parts.hidden, model_parts.model, tokens, starts, one_pass)


def kept_apart(run: Run, model: Model, tokens: Tensor, starts: Tensor | None, one_pass: bool = False) -> Tensor:
    """Like `states_of`, for any outputs of a model, which `run` calls."""
    if starts is None or not bool(starts[:, 1:].any()):
        return run(tokens)
    if _way(run, model) == POSITIONS:
        return run(tokens, position_ids=positions(starts))
    return _by_rows(run, tokens, starts, one_pass)


def separation(model_parts: Parts) -> str:
    """How this model keeps documents apart: "positions" or "rows"."""
    return _way(model_parts.hidden, model_parts.model)


def remember(model: Model, way: str) -> None:
    """Note how a model keeps documents apart, of one whose weights are not there to try it."""
    _known[model] = way


def _way(run: Run, model: Model) -> str:
    """Tried once for each model."""
    if model not in _known:
        _known[model] = POSITIONS if _is_kept_apart(run, model) else ROWS
    return _known[model]


def positions(starts: Tensor) -> Tensor:
    """Position of each token in its document [B, L]; each row begins one."""
    places = torch.arange(starts.shape[1], device=starts.device).expand_as(starts)
    return places - torch.where(starts.bool(), places, 0).cummax(-1).values


def spans(starts: Tensor) -> tuple[Tensor, Tensor]:
    """First places [D] of all documents among the flattened places, and their lengths [D]; each row begins one."""
    begins = starts.bool().clone()
    begins[:, 0] = True
    firsts = begins.flatten().nonzero().squeeze(-1)
    return firsts, torch.diff(firsts, append=torch.tensor([starts.numel()], device=firsts.device))


@torch.inference_mode(False)
def _is_kept_apart(run: Run, model: Model) -> bool:
    embedding = model.get_input_embeddings()
    first, second = _PROBE
    known = embedding.weight.shape[0]
    generator = torch.Generator().manual_seed(0)  # torch's own state is part of a run that can be resumed
    ids = torch.randint(known // 4, max(known // 4 + 1, known // 2), (1, first + second), generator=generator)
    ids = ids.to(embedding.weight.device)
    starts = torch.zeros_like(ids)
    starts[0, first] = 1
    training = model.training
    model.eval()
    try:
        with torch.enable_grad(), _differentiable(embedding) as inputs:
            together = run(ids, position_ids=positions(starts))[0, first:]
            (slope,) = torch.autograd.grad(together.float().square().sum(), inputs[0])
        with torch.no_grad():
            alone = run(ids[:, first:])[0].float()
    except (TypeError, ValueError, RuntimeError):  # takes no positions, or not these
        return False
    finally:
        model.train(training)
    tolerance = _HALF_TOLERANCE if together.element_size() == 2 else _TOLERANCE
    differs = float((together.detach().float() - alone).norm() / alone.norm().clamp_min(1e-30))
    return not bool(slope[:, :first].any()) and differs <= tolerance


@contextmanager
def _differentiable(embedding: nn.Module) -> Iterator[list[Tensor]]:
    """Context in which outputs of the embedding are leaves of the graph; they are collected in the list."""
    leaves: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_(True))
        return leaves[-1].clone()  # some models change it in place

    handle = embedding.register_forward_hook(cut)
    try:
        yield leaves
    finally:
        handle.remove()


def _by_rows(run: Run, tokens: Tensor, starts: Tensor, one_pass: bool) -> Tensor:
    """Outputs [B, L, d], one document a row; rows of like lengths run together, at most B L tokens at a time."""
    batch, length = tokens.shape
    firsts, lengths = spans(starts)
    order = torch.argsort(lengths, descending=True, stable=True)
    sizes = lengths[order].tolist()
    pieces, places = [], []
    for group in [range(len(sizes))] if one_pass else _groups(sizes, batch * length):
        rows = order[group.start : group.stop]
        steps = torch.arange(sizes[group.start], device=tokens.device)
        inside = steps[None, :] < lengths[rows][:, None]
        index = torch.where(inside, firsts[rows][:, None] + steps, firsts[rows][:, None])
        outputs = run(tokens.flatten()[index])
        pieces.append(outputs[inside])
        places.append(index[inside])
    back = torch.argsort(torch.cat(places))
    return torch.cat(pieces)[back].view(batch, length, -1)


def _groups(sizes: list[int], most: int) -> Iterator[range]:
    """Ranges of rows, given their lengths in descending order, with at most `most` tokens each after padding."""
    first = 0
    while first < len(sizes):
        stop = min(len(sizes), first + max(1, most // sizes[first]))
        yield range(first, stop)
        first = stop
