"""Measure acceptance on prompts: the target's continuations, the draft's distributions along them, and counting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.drafts import Eagle, EagleDrafter
from flashstill.distill.generate import Drafter, ModelDrafter, Sampling, probabilities, sample, speculate
from flashstill.distill.models import Model, parts
from flashstill.evaluate.drafts.expected import Floats, agreement, rates, step_sums
from flashstill.evaluate.intervals import ends, with_intervals
from flashstill.progress import Progress
from flashstill.records import AcceptanceRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A drafting head or a language model of the target's vocabulary.

    digest: fingerprint of its directory; counted: whether to decode speculatively with it as well.
    """

    name: str
    model: Any
    digest: str = ""
    counted: bool = True

    @property
    def is_eagle(self) -> bool:
        """Whether it reads the target's hidden states."""
        return isinstance(self.model, Eagle)

    @property
    def drafter(self) -> Drafter:
        """A new drafter."""
        return EagleDrafter(self.model) if self.is_eagle else ModelDrafter(self.model)

    @property
    def parameters(self) -> int:
        """Of the draft alone, without what it shares with the target."""
        return sum(int(weight.numel()) for weight in self.model.parameters())

    def logits(self, tokens: Tensor, hidden: Tensor, rows: slice, steps: int) -> list[Tensor]:
        """Logits [N, V] of the `rows` of a text, for its tokens as the 1st, 2nd ... of a step; one if all are alike.

        tokens [1, L]; hidden [1, L, d]: the target's final states.
        """
        if self.is_eagle:
            return [self.model.head.logits(states[0, rows]) for states in self.model.unrolled(hidden, tokens, steps)]
        model_parts = parts(self.model)
        return [model_parts.head.logits(model_parts.hidden(tokens)[0, rows])]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """Prompts of at least two tokens, and the document of each. domain: name of the text; digest: of the prompts."""

    tokens: Sequence[np.ndarray]
    documents: Sequence[int]
    domain: str
    digest: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measuring:
    """What is measured. sampling: how target and drafts sample; draft_tokens: drafted per step.

    target, target_digest: name and fingerprint of the target's directory; seed: of the intervals.
    """

    target: str
    sampling: Sampling
    draft_tokens: int
    target_digest: str = ""
    arithmetic: str = ""
    seed: int = 0


@torch.no_grad()
def measured(
    model: Model, drafts: Sequence[Draft], prompts: Prompts, asked: Measuring, progress: Progress
) -> list[AcceptanceRecord]:
    """A record of each draft; all see the same continuations of the same prompts."""
    model.eval()
    settings, what = asked.sampling, f"temperature {asked.sampling.temperature:g}"
    with progress.task(f"continuations of the target, {what}", len(prompts.tokens), "prompts") as advance:
        drawn = sample(model, prompts.tokens, settings, advance=advance)
    texts = [
        np.concatenate([prompt, row[:length]])
        for prompt, row, length in zip(prompts.tokens, drawn.tokens, drawn.lengths, strict=True)
    ]
    sums = [np.zeros((max(prompts.documents) + 1, asked.draft_tokens + 1)) for _ in drafts]
    with progress.task(f"distributions along them, {what}", len(texts), "prompts") as advance:
        for text, prompt, document in zip(texts, prompts.tokens, prompts.documents, strict=True):
            if len(text) - len(prompt) >= asked.draft_tokens:
                for own, added in zip(sums, _sums(model, drafts, text, len(prompt), asked), strict=True):
                    own[document] += added
            advance(1)
    tokens = int(drawn.lengths.sum())
    return [
        _record(model, draft, own, tokens, prompts, asked, progress) for draft, own in zip(drafts, sums, strict=True)
    ]


def _sums(model: Model, drafts: Sequence[Draft], text: np.ndarray, begin: int, asked: Measuring) -> list[Floats]:
    """`step_sums` of each draft on one text, whose first `begin` tokens are the prompt."""
    model_parts = parts(model)
    tokens = torch.from_numpy(text.astype(np.int64))[None].to(model_parts.head.device)
    hidden = model_parts.hidden(tokens)
    rows, ids = slice(begin - 1, len(text) - 1), tokens[0, begin:]
    p = probabilities(model_parts.head.logits(hidden[0, rows]), asked.sampling)
    sums = []
    for draft in drafts:
        by_step = draft.logits(tokens, hidden, rows, asked.draft_tokens)
        pairs = [agreement(p, probabilities(logits, asked.sampling), ids) for logits in by_step]
        pairs = pairs * asked.draft_tokens if len(pairs) == 1 else pairs
        sums.append(step_sums(np.stack([taken for taken, _ in pairs]), np.stack([overlap for _, overlap in pairs])))
    return sums


def _record(
    model: Model, draft: Draft, sums: Floats, tokens: int, prompts: Prompts, asked: Measuring, progress: Progress
) -> AcceptanceRecord:
    used = sums[sums[:, 0] > 0]
    values, low, high = with_intervals(used, rates, asked.seed)
    count, last = asked.draft_tokens, ends(low, high, len(values))[-1]
    return AcceptanceRecord(
        target=asked.target, draft=draft.name, domain=prompts.domain, temperature=asked.sampling.temperature,
        top_p=asked.sampling.top_p, draft_tokens=count, acceptance=_rounded(values[:count]),
        acceptance_low=() if low is None else _rounded(low[:count]),
        acceptance_high=() if high is None else _rounded(high[:count]),
        tokens_per_step=float(values[-1]), tokens_per_step_low=last[0], tokens_per_step_high=last[1],
        documents=len(used), tokens=tokens, vocabulary=int(parts(model).head.shape[0]),
        kind="eagle" if draft.is_eagle else "model", draft_parameters=draft.parameters,
        target_digest=asked.target_digest, draft_digest=draft.digest, data_digest=prompts.digest,
        arithmetic=asked.arithmetic, **_counted(model, draft, prompts, asked, progress),
    )  # fmt: skip


def _counted(model: Model, draft: Draft, prompts: Prompts, asked: Measuring, progress: Progress) -> dict[str, Any]:
    """Acceptance counted in speculative decoding of the prompts."""
    if not draft.counted:
        return {}
    label = f"speculative decoding with {draft.name}, temperature {asked.sampling.temperature:g}"
    with progress.task(label, len(prompts.tokens), "prompts") as advance:
        drawn = speculate(model, draft.drafter, prompts.tokens, asked.sampling, asked.draft_tokens, advance=advance)
    tried, accepted = drawn.tried.sum(0), drawn.accepted.sum(0)
    counted = np.where(tried > 0, accepted / np.maximum(tried, 1), 0.0)
    return {
        "counted": _rounded(counted),
        "counted_tokens_per_step": float(1.0 + np.cumprod(counted).sum()),
        "counted_steps": int(drawn.steps.sum()),
    }


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in np.clip(values, 0.0, 1.0))
