"""What the closed form of the knee needs to know of a traffic's lengths: weighted means over its requests.

A request of P prompt tokens, c of them cached, and O output tokens runs for O - 1 decode steps, as its prefill gives the
first token.  Whoever looks at a running sequence sees long answers more often than short ones: means over running
sequences are weighted with O - 1 (the inspection paradox; Wolff 1982).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flashstill.errors import BadInput
from flashstill.simulate.loop import Arrivals
from flashstill.simulate.state import Limits, Values


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """Means of the requests that a replica can hold.

    requests: all of them; held: share that fits into the cache.  outputs, steps: output tokens, and decode steps, of a
    request; prompt: its prompt tokens to compute; attended: earlier tokens that such a token attends to.
    context, blocks: cached tokens, and blocks of cache, of a sequence that decodes; prompt_blocks: of a complete
    prompt; whole_blocks: of a sequence at its end, of one that decodes.
    prompt_spare, whole_spare: mean blocks that stay free because the next request needs more of them than are free.
    """

    requests: int
    held: float
    outputs: float
    steps: float
    prompt: float
    attended: float
    context: float
    blocks: float
    prompt_blocks: float
    whole_blocks: float
    prompt_spare: float
    whole_spare: float


def mix_of(pieces: Iterable[Arrivals], limits: Limits) -> Mix:
    """Means over all requests, read piece by piece. BadInput if no request fits into the cache."""
    total, sums = 0, np.zeros(12)
    for piece in pieces:
        total += len(piece.arrival_s)
        sums += _sums(piece, limits)
    count = sums[0]
    if not count:
        raise BadInput("no request of this traffic fits into the cache of a replica, so that there is no knee")
    running = max(float(sums[2]), 1.0)
    return Mix(
        requests=total,
        held=float(count / total),
        outputs=float(sums[1] / count),
        steps=float(sums[2] / count),
        prompt=float(sums[3] / count),
        attended=float(sums[4] / sums[3]),
        context=float(sums[5] / running),
        blocks=float(sums[6] / running),
        prompt_blocks=float(sums[7] / count),
        whole_blocks=float(sums[8] / running),
        prompt_spare=float(sums[9] / (2.0 * sums[7])),
        whole_spare=float(sums[10] / (2.0 * sums[11])),
    )


def _sums(piece: Arrivals, limits: Limits) -> Values:
    """Sums over the requests of a piece that fit, in the order in which `mix_of` divides them."""
    prompt, output, cached = (np.asarray(each, dtype=np.float64) for each in (piece.prompt, piece.output, piece.cached))
    whole = np.ceil((prompt + output) / limits.block)
    fits = whole <= limits.blocks
    prompt, output, cached, whole = prompt[fits], output[fits], cached[fits], whole[fits]
    steps, new, first = output - 1.0, prompt - cached, np.ceil(prompt / limits.block)
    context = prompt + output / 2.0
    return np.array(
        [
            len(prompt),
            output.sum(),
            steps.sum(),
            new.sum(),
            (new * (cached + new / 2.0)).sum(),
            (steps * context).sum(),
            (steps * (context / limits.block + 0.5 * (1.0 - 1.0 / limits.block))).sum(),  # the last block is half full
            first.sum(),
            (steps * whole).sum(),
            (first**2).sum(),  # age of a renewal process: E[x^2] / (2 E[x])
            (whole**2).sum(),
            whole.sum(),
        ]
    )
