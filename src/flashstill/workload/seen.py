"""Which cached tokens a query sees, and how many pairs of a query and a key there are."""

from __future__ import annotations

import numpy as np

from flashstill.workload.operations import Quantity


def attended(queries: Quantity, past: Quantity, limit: int | None, prompt: bool) -> tuple[Quantity, Quantity]:
    """Cached tokens that are read, and pairs of a query and a key, where a query sees at most `limit` tokens.

    Decode: pairs q (S + (q+1)/2).  Prompt: causal, q (q+1)/2 + q S, less what the limit hides.
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
