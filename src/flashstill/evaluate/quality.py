"""What a model does on every token of a text: its surprise, its distance to the teacher, whether it agrees.

The logits of both models are computed from final hidden states in float32, a few hundred tokens at a time, whatever
the precision of the models: rounding logits to bfloat16 would add noise to small divergences.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from flashstill.distill.losses import kl_of_log_probabilities
from flashstill.distill.models import Model, parts
from flashstill.distill.packing import Packed
from flashstill.distill.signals import Signals, hidden_states
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


def score_tokens(
    models: Mapping[str, Model | None], packed: Packed, teacher: Signals, advance: Advance
) -> dict[str, TokenScores]:
    """Score every target of `packed` for every model; the teacher's probabilities are formed once for all of them.

    teacher: its exact signals on the same windows; a model that is None is the teacher itself, read from them.
    """
    heads = {name: parts(model).head.detach().float() for name, model in models.items() if model is not None}
    assert teacher.head is not None, "only exact signals give every probability"
    reference = teacher.head.float()
    found = {name: _Columns(nats=[], kl=[], agrees=[]) for name in models}
    with torch.inference_mode(), _exact_products_of_bf16():
        for start in range(0, packed.windows, WINDOWS_PER_PASS):
            rows = np.arange(start, min(start + WINDOWS_PER_PASS, packed.windows))
            tokens = torch.from_numpy(packed.tokens[rows].astype(np.int64))
            targets = tokens[:, 1:].reshape(-1, 1)
            wanted = torch.log_softmax(teacher.hidden(rows).flatten(0, 1).float() @ reference.T, -1)
            probability, top = wanted.exp(), wanted.argmax(-1)
            for name, model in models.items():
                given = wanted
                if model is not None:
                    hidden = hidden_states(model, tokens[:, :-1]).flatten(0, 1).float()
                    given = torch.log_softmax(hidden @ heads[name].T, -1)
                columns = found[name]
                columns.nats.append(-given.gather(-1, targets).squeeze(-1))
                columns.kl.append(kl_of_log_probabilities(given, wanted, probability))
                columns.agrees.append((given.argmax(-1) == top).float())
                advance(targets.shape[0], name)
    return {name: _scores(columns, packed) for name, columns in found.items()}


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
