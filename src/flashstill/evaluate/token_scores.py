"""Per token of a text: a model's NLL, top-1 prediction and its probability, KL from the teacher, top-1 agreement with
the teacher.

The logits of both models are computed from final hidden states in float32, at most a thousand tokens at a time,
whatever the precision of the models: rounding logits to bfloat16 would add noise to small divergences.

A served teacher returns the k likeliest ids and the total probability of the rest.  The top token is among them; the
KL over these ids and one bucket for the rest is a lower bound of the KL over the vocabulary (data processing
inequality: Cover and Thomas 2006, theorem 2.8.1), and its metric has a different name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import DenseTeacher, Head, Sparse, kl_of_log_probabilities, sparse_loss
from flashstill.distill.models import Model
from flashstill.distill.training import Batch, take
from flashstill.evaluate.readers import reader_of, windows_scored_at_once
from flashstill.progress import Advance

METRICS = ("bits_per_byte", "perplexity", "kl_to_teacher", "agreement")
MOST_TOKENS, MOST_LOGITS = 1024, 2**27
"""limits on the logits in memory at a time: tokens, and elements (512 MiB in float32)"""


class TeacherOnText(Protocol):
    """A teacher's outputs on one packed text, as `distill.signals.Signals` reads them from the disk."""

    head: Head | None
    """LM head of a teacher with known final hidden states; None for a served one"""

    def __call__(self, batch: Batch) -> DenseTeacher | Sparse:
        """The outputs on the windows of a batch."""
        ...

    def target_log_p(self, windows: np.ndarray) -> Tensor:
        """Log-probability of every target [len(windows), L]; for a served teacher only."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenScores:
    """One entry per target token, without separators; all [N].

    nll: in nats; is_right: 1 where the model's top token is the target; confidence: probability of the top token;
    bytes: UTF-8 bytes of the target; document: its index; kl: KL(teacher || model) in nats, and agrees: 1 where both
    have the same top token; None without a teacher.
    """

    nll: npt.NDArray[np.float64]
    is_right: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    bytes: npt.NDArray[np.float64]
    document: npt.NDArray[np.int64]
    kl: npt.NDArray[np.float64] | None = None
    agrees: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    """Chunks of the columns of TokenScores, one per group of tokens."""

    nll: list[Tensor] = field(default_factory=list)
    is_right: list[Tensor] = field(default_factory=list)
    confidence: list[Tensor] = field(default_factory=list)
    kl: list[Tensor] = field(default_factory=list)
    agrees: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reference:
    """The teacher on N tokens: its NLL [N], its top token [N] and the probability of that [N].

    kl_from: a model's logits [N, V] and log-probabilities [N, V] -> KL(teacher || model) [N].
    """

    nll: Tensor
    top: Tensor
    confidence: Tensor
    kl_from: Callable[[Tensor, Tensor], Tensor]


def score_tokens(
    models: Mapping[str, Model | None], packed: Packed, teacher: TeacherOnText | None, advance: Advance
) -> dict[str, TokenScores]:
    """Score every target of `packed` for every model; the teacher's probabilities are computed once for all of them.

    teacher: its outputs on the same windows; a model that is None is the teacher itself, scored from these outputs.
    """
    probe = torch.from_numpy(packed.tokens[:1, : min(16, packed.length)].astype(np.int64))
    readers = {name: reader_of(model, probe) for name, model in models.items() if model is not None}
    device = next((reader.model.device for reader in readers.values()), torch.device("cpu"))
    head = None if teacher is None or teacher.head is None else teacher.head.to(device).widened()
    columns = {name: _Columns() for name in models}
    products = [model.dtype for model in models.values() if model is not None]
    if teacher is not None and teacher.head is not None:
        products.append(teacher.head.weight.dtype)  # of its states too
    in_bf16 = all(dtype == torch.bfloat16 for dtype in products)
    with torch.inference_mode(), _exact_products_of_bf16() if in_bf16 else contextlib.nullcontext():
        step = windows_scored_at_once(device, packed)
        for start in range(0, packed.windows, step):
            batch = take(packed, np.arange(start, min(start + step, packed.windows))).to(device)
            outputs = None if teacher is None else teacher(batch)
            states = {name: reader.states(batch) for name, reader in readers.items()}
            for tokens in _groups(batch, [head, *(reader.head for reader in readers.values())]):
                targets = batch.targets[tokens]
                known = None if outputs is None else _reference(teacher, batch, outputs, tokens, head)
                for name in models:
                    if name in readers:
                        logits = readers[name].logits(states[name][tokens])
                        _score(columns[name], logits, targets, known)
                    else:
                        assert known is not None, "a model that is the teacher, without one"
                        _score_teacher(columns[name], targets, known)
                    advance(len(targets), name)
    return {name: _scores(each, packed) for name, each in columns.items()}


def _groups(batch: Batch, heads: list[Head | None]) -> Iterator[slice]:
    """Slices of the tokens of a batch whose logits fit into memory."""
    tokens, vocabulary = len(batch.targets), max((len(head) for head in heads if head is not None), default=1)
    size = max(1, min(MOST_TOKENS, MOST_LOGITS // vocabulary))
    for first in range(0, tokens, size):
        yield slice(first, min(first + size, tokens))


def _reference(
    teacher: TeacherOnText | None, batch: Batch, outputs: DenseTeacher | Sparse, tokens: slice, head: Head | None
) -> _Reference:
    if isinstance(outputs, Sparse):
        assert outputs.tail, "ids that were drawn are no distribution"
        assert teacher is not None
        assert batch.windows is not None
        likeliest = outputs.part(tokens)
        return _Reference(
            nll=-teacher.target_log_p(batch.windows).flatten()[tokens],
            top=likeliest.ids[:, 0],
            confidence=likeliest.weights[:, 0],
            kl_from=lambda _, log_q: sparse_loss(log_q, likeliest.below(log_q.shape[1])),
        )
    assert head is not None
    logits = head.logits(outputs.hidden[0][tokens].to(head.device))
    log_p = torch.log_softmax(logits, -1)
    probability = log_p.exp()

    def kl_from(other: Tensor, log_q: Tensor) -> Tensor:
        if other.shape == logits.shape:
            return kl_of_log_probabilities(log_q, log_p, probability)
        # LM heads of one vocabulary can be padded to different widths; the ids beyond the narrower one are unused
        shared = min(other.shape[1], logits.shape[1])
        return kl_of_log_probabilities(*(torch.log_softmax(each[:, :shared], -1) for each in (other, logits)))

    highest = probability.max(-1)
    return _Reference(
        nll=_nll(log_p, batch.targets[tokens]), top=highest.indices, confidence=highest.values, kl_from=kl_from
    )


def _nll(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    return -log_probabilities.gather(-1, targets[:, None]).squeeze(-1)


def _score(columns: _Columns, logits: Tensor, targets: Tensor, known: _Reference | None) -> None:
    log_q = torch.log_softmax(logits, -1)
    highest = log_q.max(-1)
    top = highest.indices
    columns.nll.append(_nll(log_q, targets).cpu())
    columns.is_right.append((top == targets).float().cpu())
    columns.confidence.append(highest.values.exp().cpu())
    if known is not None:
        columns.kl.append(known.kl_from(logits, log_q).cpu())
        columns.agrees.append((top == known.top.to(top.device)).float().cpu())


def _score_teacher(columns: _Columns, targets: Tensor, known: _Reference) -> None:
    columns.nll.append(known.nll.cpu())
    columns.is_right.append((known.top == targets).float().cpu())
    columns.confidence.append(known.confidence.float().cpu())
    columns.kl.append(torch.zeros_like(columns.nll[-1]))
    columns.agrees.append(torch.ones_like(columns.nll[-1]))


def _scores(columns: _Columns, packed: Packed) -> TokenScores:
    document = packed.target_document.ravel().astype(np.int64)
    is_text = document >= 0

    def joined(pieces: list[Tensor]) -> npt.NDArray[np.float64]:
        return torch.cat(pieces).double().numpy()[is_text]

    return TokenScores(
        nll=joined(columns.nll),
        is_right=joined(columns.is_right),
        confidence=joined(columns.confidence),
        bytes=packed.target_bytes.ravel()[is_text].astype(np.float64),
        document=document[is_text],
        kl=joined(columns.kl) if columns.kl else None,
        agrees=joined(columns.agrees) if columns.agrees else None,
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
