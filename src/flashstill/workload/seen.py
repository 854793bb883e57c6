"""Number of cached tokens that attention reads, and of query-key pairs that it computes."""

from __future__ import annotations

import numpy as np

from flashstill.workload.operations import Quantity


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
