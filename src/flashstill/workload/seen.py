"""The new tokens of a step, and what their attention reads of the cache and computes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.workload.operations import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTokens:
    """`queries` new tokens of each of `sequences` sequences, after `past` cached ones; prompt: prefilled or decoded."""

    sequences: Quantity
    queries: Quantity
    past: Quantity = 0.0
    prompt: bool

    @property
    def tokens(self) -> Quantity:
        """New tokens of all sequences."""
        return self.sequences * self.queries

    def attended(self, limit: int | None) -> tuple[Quantity, Quantity]:
        """`attended`, of one sequence."""
        return attended(self.queries, self.past, limit, self.prompt)


def attended(queries: Quantity, past: Quantity, limit: int | None, prompt: bool) -> tuple[Quantity, Quantity]:
    """Cached tokens read, and query-key pairs computed, if each query sees at most `limit` tokens (None: all).

    Decode: pairs q (S + (q+1)/2).  Prompt: causal, q (q+1)/2 + q S, less the pairs beyond the limit.
    """
    seen = past if limit is None else np.minimum(past, float(limit))
    if not prompt:
        return seen, queries * (seen + (queries + 1.0) / 2.0)
    pairs = queries * (queries + 1.0) / 2.0 + queries * past
    if limit is not None:
        beyond = np.maximum(queries + past - float(limit), 0.0)
        earlier = np.maximum(past - float(limit), 0.0)
        pairs = pairs - beyond * (beyond + 1.0) / 2.0 + earlier * (earlier + 1.0) / 2.0
    return seen, pairs
