"""The routing that published expert kernel benchmarks draw, replayed to count what the timed chip computed.

Symbols: T tokens, k experts a token, E experts in g groups (one a chip), a the exponent of the power law.

    balanced       token t takes experts t + i s, i = 0 to k-1, s = ceil(E/k); T < s tokens are spread evenly
    power law      each expert's share is drawn from the density x^-a, from 1 to 0.8 T tokens (0.01 to 2 where
                   T k <= E), scaled to T k pairs, at most T an expert; of each of five draws the busiest group is timed
    random         each token takes any k of the experts (AMD's tables); the mean over groups

So a group holds more pairs than T k / g, and reaches fewer experts than a random router would.  Source: balanced_logits
and power_law_logits_v3 of NVIDIA's aiconfigurator (collector/helper.py), which made the tables.  Rounding to whole
tokens is spread over groups at once here, expert by expert there.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from flashstill.validation.comparison import Values

DRAWS = 5
_LARGEST_SHARE = 0.8
_FEW = (0.01, 2.0)
"""range of loads where there are fewer pairs than experts"""


@functools.cache
def routed(tokens: int, experts: int, chosen: int, groups: int, exponent: float | None) -> tuple[float, float, float]:
    """Pairs and distinct experts of the timed group, and tokens with an expert there; means over draws.

    exponent: of the power law; None for balanced routing.
    """
    if exponent is None:
        loads = _balanced(tokens, experts, chosen)[: experts // groups]
        pairs = float(loads.sum())
        return pairs, float((loads > 0).sum()), min(pairs, float(tokens))
    busiest = _power_law(tokens, experts, chosen, groups, exponent)
    elsewhere = np.prod(1.0 - np.minimum(busiest / tokens, 1.0), axis=1)
    visiting = tokens * (1.0 - elsewhere)
    return float(busiest.sum(1).mean()), float((busiest > 0).sum(1).mean()), float(visiting.mean())


def at_random(tokens: int, experts: int, chosen: int, groups: int) -> tuple[float, float, float]:
    """The same counts where each token takes any `chosen` of the experts."""
    missed = (1.0 - chosen / experts) ** tokens
    none_here = math.prod((experts - experts / groups - i) / (experts - i) for i in range(chosen))
    return tokens * chosen / groups, experts / groups * (1.0 - missed), tokens * (1.0 - max(none_here, 0.0))


def _balanced(tokens: int, experts: int, chosen: int) -> npt.NDArray[np.int64]:
    """Pairs of every expert."""
    stride = -(-experts // chosen)
    first = np.arange(tokens % experts)[:, None] if tokens >= stride else np.arange(tokens)[:, None] * stride // tokens
    taken = (first + stride * np.arange(chosen)) % experts
    rounds = tokens // experts if tokens >= stride else 0
    return np.asarray(np.bincount(taken.ravel(), minlength=experts) + rounds * chosen, dtype=np.int64)


def _power_law(tokens: int, experts: int, chosen: int, groups: int, exponent: float) -> Values:
    """Pairs of the experts of the busiest group, (draws x experts of a group)."""
    random = np.random.default_rng([tokens, experts, chosen, groups, round(exponent * 1e6)])
    low, high = (1.0, _LARGEST_SHARE * tokens) if tokens * chosen > experts else _FEW
    power = 1.0 - exponent
    drawn = ((high**power - low**power) * random.random((DRAWS, experts)) + low**power) ** (1.0 / power)
    loads = np.round(drawn / drawn.sum(1, keepdims=True) * tokens * chosen)
    missing = tokens * chosen - np.minimum(loads, tokens).sum(1)
    by_group = np.minimum(loads, tokens).reshape(DRAWS, groups, -1)
    change = missing[:, None] // groups + (np.arange(groups) < missing[:, None] % groups)
    by_group = _filled(by_group, np.maximum(change, 0.0))
    by_group = -_filled(-by_group, np.maximum(-change, 0.0))
    return np.asarray(by_group[np.arange(DRAWS), by_group.sum(2).argmax(1)])


def _filled(loads: Values, more: Values) -> Values:
    """Whole pairs `more` added one by one to the least loaded expert of each group; sorted by load.

    loads: (draws x groups x experts of a group).  more: (draws x groups).
    """
    count = loads.shape[2]
    ranked = np.sort(loads, axis=2)
    below = np.cumsum(ranked, axis=2)
    rank = np.arange(1, count + 1)
    # pairs that lift the first `rank` experts to the load of the last of them
    lift = rank * ranked - below
    raised = np.maximum((lift <= more[..., None]).sum(2), 1)
    total = np.take_along_axis(below, raised[..., None] - 1, axis=2)[..., 0] + more
    level, rest = np.divmod(total, raised)
    new = level[..., None] + (rank <= rest[..., None])
    return np.where(rank <= raised[..., None], new, ranked)
