"""What a model does on every token of a text: its surprise, its distance to the teacher, whether it agrees.

The logits of both models are computed from final hidden states in float32, a few hundred tokens at a time, whatever
the precision of the models: rounding logits to bfloat16 would add noise to small divergences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from flashstill.distill.losses import cross_entropy, forward_kl
from flashstill.distill.models import Model, parts
from flashstill.distill.packing import Packed
from flashstill.distill.signals import HiddenSignals, hidden_states
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


def score_tokens(
    model: Model, packed: Packed, teacher: HiddenSignals, teacher_head: torch.Tensor, advance: Advance
) -> TokenScores:
    """Score every target of `packed`; teacher: its final hidden states on the same windows, head [V, d]."""
    head, reference = parts(model).head.detach().float(), teacher_head.detach().float()
    nats, kl, agrees = [], [], []
    with torch.inference_mode():
        for start in range(0, packed.windows, WINDOWS_PER_PASS):
            rows = np.arange(start, min(start + WINDOWS_PER_PASS, packed.windows))
            tokens = torch.from_numpy(packed.tokens[rows].astype(np.int64))
            logits = hidden_states(model, tokens[:, :-1]).flatten(0, 1).float() @ head.T
            wanted = teacher.rows(rows).flatten(0, 1).float() @ reference.T
            nats.append(cross_entropy(logits, tokens[:, 1:].flatten()))
            kl.append(forward_kl(logits, wanted))
            agrees.append((logits.argmax(-1) == wanted.argmax(-1)).float())
            advance(rows.size * packed.length)
    document = packed.target_document.ravel().astype(np.int64)
    counted = document >= 0

    def gather(pieces: list[torch.Tensor]) -> npt.NDArray[np.float64]:
        return torch.cat(pieces).double().numpy()[counted]

    return TokenScores(
        nats=gather(nats),
        kl=gather(kl),
        agrees=gather(agrees),
        bytes=packed.target_bytes.ravel()[counted].astype(np.float64),
        document=document[counted],
    )
