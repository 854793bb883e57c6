"""Operations of a mixed step: decoding sequences and prompt chunks in one forward pass that reads each weight once.

Symbols: b sequences decode q tokens each after S cached ones; c chunks of L prompt tokens follow P cached ones.

    products, experts, norms   on all  T = b q + c L  tokens together: one GEMM, one E[distinct experts]
    attention, recurrence      one kernel for the decoding sequences and one for the chunks, each with its own context
    LM head                    b q + c rows: a chunk needs only the logits of its last position

This is continuous batching (Agrawal et al. 2024, Sarathi-Serve, section 4).  MLA decodes in its absorbed form and
prefills in the expanded one: products of only one form stay separate, each with its own weights.
Without chunks the operations equal those of `decode`, without decoding sequences those of `prefill`.  One array may mix
these cases: operations on zero tokens get count zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flashstill.arch import Architecture
from flashstill.workload.blocks import blocks_once
from flashstill.workload.operations import Operation, Quantity, Widths
from flashstill.workload.phases import ends
from flashstill.workload.seen import NewTokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """Decoding sequences with `context` cached tokens; `queries` new tokens each (more than one to verify drafts)."""

    sequences: Quantity
    context: Quantity
    queries: Quantity = 1.0

    @property
    def tokens(self) -> Quantity:
        """New tokens of all sequences."""
        return self.sequences * self.queries

    @property
    def new(self) -> NewTokens:
        """The new tokens."""
        return NewTokens(sequences=self.sequences, queries=self.queries, past=self.context, prompt=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunks:
    """Chunks of prompts: `count` chunks of `length` tokens, each after `past` cached tokens of its prompt."""

    count: Quantity
    length: Quantity
    past: Quantity = 0.0

    @property
    def tokens(self) -> Quantity:
        """Prompt tokens of all chunks."""
        return self.count * self.length

    @property
    def new(self) -> NewTokens:
        """The new tokens: those of the chunks."""
        return NewTokens(sequences=self.count, queries=self.length, past=self.past, prompt=True)


def mixed(
    model: Architecture,
    decoding: Decoding,
    chunks: Chunks,
    widths: Widths | None = None,
    skew: float = 0.0,
) -> tuple[Operation, ...]:
    """One forward pass over decoding sequences and prompt chunks; counts and lengths may be arrays that broadcast."""
    widths = widths or Widths()
    chunks = _with_lengths(chunks)
    sampled = decoding.tokens + chunks.count
    every = blocks_once(model, (decoding.new, chunks.new), widths, skew)
    return (*every, *ends(model, decoding.tokens + chunks.tokens, sampled, widths))


def _with_lengths(chunks: Chunks) -> Chunks:
    """The chunks with length at least 1 where they are empty, since kernels divide by the length."""
    there = np.asarray(chunks.tokens) > 0
    if there.all():
        return chunks
    return replace(chunks, count=np.where(there, chunks.count, 0.0), length=np.where(there, chunks.length, 1.0))
