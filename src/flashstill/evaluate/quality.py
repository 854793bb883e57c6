"""What a model does on every token of a text: its surprise, its distance to the teacher, whether it agrees.

The logits of both models are computed from final hidden states in float32, a few hundred tokens at a time, whatever
the precision of the models: rounding logits to bfloat16 would add noise to small divergences.

Of a teacher behind a server the k likeliest ids and the mass of the rest are known.  The top token is among them; the
KL over the ids and one bucket is at most the KL over the vocabulary (data processing inequality: Cover and Thomas
2006, theorem 2.8.1), and is called what it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import Sparse, kl_of_log_probabilities, sparse_loss
from flashstill.distill.models import Model, parts
from flashstill.distill.signals import Signals, hidden_states
from flashstill.distill.training import Batch, take
from flashstill.progress import Advance

METRICS = ("bits_per_byte", "perplexity", "kl_to_teacher", "agreement")
WINDOWS_PER_PASS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenScores:
    """Per target token, separators left out, all [N]: nats, KL(teacher || model), same top token, bytes, document."""

    nats: npt.NDArray[np.float64]
    kl: npt.NDArray[np.float64]
    agrees: npt.NDArray[np.float64]
    bytes: npt.NDArray[np.float64]
    document: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    nats: list[torch.Tensor]
    kl: list[torch.Tensor]
    agrees: list[torch.Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Teacher:
    """What is known of the teacher on some tokens: its own surprise [N], and how a model compares with it.

    compare: log-probabilities [N, V] -> KL(teacher || model) [N], as far as it is known, and same top token [N].
    """

    nats: Tensor
    compare: Callable[[Tensor], tuple[Tensor, Tensor]]


def score_tokens(
    models: Mapping[str, Model | None], packed: Packed, teacher: Signals, advance: Advance
) -> dict[str, TokenScores]:
    """Score every target of `packed` for every model; the teacher's probabilities are formed once for all of them.

    teacher: its signals on the same windows, exact ones or those of a server; a model that is None is the teacher
    itself, read from them.
    """
    heads = {name: parts(model).head.detach().float() for name, model in models.items() if model is not None}
    reference = None if teacher.head is None else teacher.head.float()
    found = {name: _Columns(nats=[], kl=[], agrees=[]) for name in models}
    in_bf16 = all(model is None or model.dtype == torch.bfloat16 for model in models.values())
    with torch.inference_mode(), _exact_products_of_bf16() if in_bf16 else contextlib.nullcontext():
        for start in range(0, packed.windows, WINDOWS_PER_PASS):
            rows = np.arange(start, min(start + WINDOWS_PER_PASS, packed.windows))
            batch = take(packed, rows)
            targets, known = batch.targets[:, None], _known(teacher, batch, reference)
            for name, model in models.items():
                columns = found[name]
                if model is None:
                    nats, kl, agrees = known.nats, torch.zeros_like(known.nats), torch.ones_like(known.nats)
                else:
                    hidden = hidden_states(model, batch.inputs).flatten(0, 1).float()
                    given = torch.log_softmax(hidden @ heads[name].T, -1)
                    nats, (kl, agrees) = -given.gather(-1, targets).squeeze(-1), known.compare(given)
                columns.nats.append(nats)
                columns.kl.append(kl)
                columns.agrees.append(agrees.float())
                advance(targets.shape[0], name)
    return {name: _scores(columns, packed) for name, columns in found.items()}


def _known(teacher: Signals, batch: Batch, head: Tensor | None) -> _Teacher:
    said = teacher(batch)
    if isinstance(said, Sparse):
        assert said.tail, "ids that were drawn are no distribution"
        assert batch.windows is not None
        nats = -teacher.target_log_p(batch.windows).flatten()
        return _Teacher(nats=nats, compare=lambda given: (sparse_loss(given, said), given.argmax(-1) == said.ids[:, 0]))
    assert head is not None
    wanted = torch.log_softmax(said.hidden[0].float() @ head.T, -1)
    probability, top = wanted.exp(), wanted.argmax(-1)
    return _Teacher(
        nats=-wanted.gather(-1, batch.targets[:, None]).squeeze(-1),
        compare=lambda given: (kl_of_log_probabilities(given, wanted, probability), given.argmax(-1) == top),
    )


def _scores(columns: _Columns, packed: Packed) -> TokenScores:
    document = packed.target_document.ravel().astype(np.int64)
    counted = document >= 0

    def gather(pieces: list[torch.Tensor]) -> npt.NDArray[np.float64]:
        return torch.cat(pieces).double().numpy()[counted]

    return TokenScores(
        nats=gather(columns.nats),
        kl=gather(columns.kl),
        agrees=gather(columns.agrees),
        bytes=packed.target_bytes.ravel()[counted].astype(np.float64),
        document=document[counted],
    )


@contextlib.contextmanager
def _exact_products_of_bf16() -> Iterator[None]:
    """float32 matrix products may multiply in bfloat16 and add in float32: exact here, since the factors are bfloat16
    values already, and more than twice as fast on processors that have such instructions."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
