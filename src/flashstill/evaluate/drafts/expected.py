"""Expected acceptance of drafts along a text that the target sampled itself, without drawing any draft.

Let p_j be the target's distribution of token x_j of its text, and q^i_j the draft's, where x_j is the i-th token after
the start of a step.  Given the text, which is distributed as drafted text would be (generate/speculative.py):

    r^i_j = min(1, q^i_j(x_j) / p_j(x_j))        probability that x_j came from the draft, and was accepted
    o^i_j = sum_x min(p_j, q^i_j) = 1 - TV       probability that the draft of x_j is accepted (Leviathan et al. 2023,
                                                 corollary 3.6)
    pi(s)                                        probability that a step starts at x_s: pi(0) = 1, and a start s leads
                                                 to s + m + 1 with probability r^1 ... r^m (1 - r^(m+1)), after all g
                                                 accepted drafts to s + g + 1
    S_i = sum_s pi(s) r^1_s ... r^(i-1) o^i / sum_s pi(s)     at least i drafts are accepted
    a_i = S_i / S_(i-1),   tokens per step = 1 + S_1 + ... + S_g

These are the expectations of what counting accepted drafts estimates, with the draws of drafts and of their acceptance
averaged out; positions are weighted as steps visit them, and not all alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]


def agreement(p: Tensor, q: Tensor, ids: Tensor) -> tuple[Floats, Floats]:
    """r and o [N] of N tokens ids [N], from the distributions p and q [N, V]."""
    p_id, q_id = (each.gather(1, ids[:, None])[:, 0].double() for each in (p, q))
    taken = torch.where(p_id > 0, (q_id / p_id.clamp(min=1e-300)).clamp(max=1.0), torch.ones_like(p_id))
    overlap = torch.minimum(p, q).sum(-1, dtype=torch.float64).clamp(max=1.0)
    return taken.cpu().numpy(), overlap.cpu().numpy()


def step_sums(taken: Floats, overlap: Floats) -> Floats:
    """[g + 1]: sum over starts of pi(s), and of pi(s) r^1 ... r^(i-1) o^i for i = 1 ... g, over one text of N tokens.

    taken, overlap [g, N]: r and o of every token as the i-th of a step.  Starts with fewer than g tokens left are left
    out.
    """
    positions, length = taken.shape
    starts, sums = np.zeros(length + positions + 2), np.zeros(positions + 1)
    starts[0] = 1.0
    for start in range(length - positions + 1):
        here = starts[start]
        sums[0] += here
        for place in range(positions):
            sums[1 + place] += here * overlap[place, start + place]
            starts[start + place + 1] += here * (1.0 - taken[place, start + place])
            here *= taken[place, start + place]
        starts[start + positions + 1] += here
    return sums


def rates(sums: Floats) -> Floats:
    """[2 g + 1, ...]: a_1 ... a_g, S_1 ... S_g and the tokens per step, from sums [g + 1, ...] (`step_sums`)."""
    survival = sums[1:] / np.maximum(sums[0], 1e-300)
    before = np.concatenate([np.ones_like(survival[:1]), survival[:-1]])
    given = np.where(before > 0, survival / np.maximum(before, 1e-300), 0.0)
    return np.concatenate([given, survival, 1.0 + survival.sum(0, keepdims=True)])
