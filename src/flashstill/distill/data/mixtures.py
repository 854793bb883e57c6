"""Mixtures: the windows of several packings in given shares of tokens.

windows of a source    W w_i / sum w, rounded by largest remainders, so that they sum to W
epochs                 a source with fewer windows is repeated from its first one, at most four times over: up to
                       there repeated text teaches almost as well as new (Muennighoff et al. 2023, "Scaling
                       Data-Constrained Language Models", figure 1); beyond it the mixture is refused
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flashstill.distill.data.packing import Packed, joined
from flashstill.distill.data.stored import write_windows
from flashstill.errors import BadInput

MOST_EPOCHS = 4


def shares(weights: Sequence[float], windows: int) -> list[int]:
    """Windows of each source, at least one."""
    if windows < len(weights):
        raise BadInput(f"{windows} windows are too few for a mixture of {len(weights)} sources; each needs one")
    exact = windows * np.asarray(weights) / sum(weights)
    counts = np.maximum(1, np.floor(exact)).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    for place in range(windows - int(counts.sum())):
        counts[order[place % len(order)]] += 1
    while counts.sum() > windows:
        counts[np.argmax(counts)] -= 1
    result: list[int] = counts.tolist()
    return result


def mixture(parts: Sequence[Packed], counts: Sequence[int], names: Sequence[str], path: Path | None = None) -> Packed:
    """The first `counts` windows of each packing, which are repeated where there are fewer; `window_group`: of which.

    path: a file (stored.py) for packings that are not in memory.  Raises BadInput for more than four epochs.
    """
    for part, count, name in zip(parts, counts, names, strict=True):
        if count > MOST_EPOCHS * part.windows:
            raise BadInput(
                f"the mixture asks for {count * part.length:,} tokens of {name}, which has {part.token_count:,}:"
                f" {count / part.windows:.1f} epochs, where {MOST_EPOCHS} are the most; lower its weight or"
                " text.train_tokens"
            )
    rows = [np.arange(count) % part.windows for part, count in zip(parts, counts, strict=True)]
    if path is not None and any(part.known_hash for part in parts):
        return write_windows(path, parts, rows)
    return joined([part.taken(places) for part, places in zip(parts, rows, strict=True)])
