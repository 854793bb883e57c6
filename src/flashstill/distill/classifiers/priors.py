"""The bias of a class that a student has never seen, from priors alone.

Symbols: q_c(x) the student's probability of class c, pi_c the share of class c where it will be used, known; tau_c the
mean probability of c that the teacher gave on the student's transfer set.

    shifted    q'_c ~ q_c pi_c / tau_c        z'_c = z_c + log(pi_c / tau_c)
    matched    z'_c = z_c + b_c with b_c such that  mean over x of softmax(z + b)_c = pi_c, for the missing class only

The first is the rule of Saerens, Latinne, Decaestecker 2002 ("Adjusting the outputs of a classifier to new a priori
probabilities", eq. 4), for which the transfer set is enough.  It is exact where every class looks the same in both
sets, which a class that is absent from one of them cannot; there it asks what little the teacher saw of the class to
stand for all of it.  The second needs images as they will come, without labels.  Hinton, Vinyals, Dean 2015, section 3,
choose the bias on the test set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flashstill.errors import BadInput

_FARTHEST, _HALVINGS = 60.0, 60


def shifted(logits: Tensor, transfer_prior: Tensor, prior: Tensor) -> Tensor:
    """Logits [N, C] for classes of the shares prior [C], learned where they had the shares transfer_prior [C]."""
    return logits + (prior / transfer_prior.clamp_min(torch.finfo(logits.dtype).tiny)).log()


def matching_bias(logits: Tensor, missing: int, prior: float) -> float:
    """The bias b of one class for which its mean probability over unlabelled images [N, C] is its prior.

    The mean rises with b from 0 to 1, so that halving finds it.
    """
    if not 0.0 < prior < 1.0:
        raise BadInput(f"the prior of class {missing} is {prior:g}; it must lie between 0 and 1")
    wide = logits.double()
    rest = torch.cat([wide[:, :missing], wide[:, missing + 1 :]], -1).logsumexp(-1)
    odds = wide[:, missing] - rest
    low, high = -_FARTHEST, _FARTHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = float(torch.sigmoid(odds + middle).mean()) < prior
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


def biased(logits: Tensor, missing: int, bias: float) -> Tensor:
    """Logits [N, C] with a bias added to one class."""
    shifted = logits.clone()
    shifted[:, missing] += bias
    return shifted


def recall(logits: Tensor, labels: Tensor, label: int) -> float:
    """Share of the examples of a class that are predicted as it (recall)."""
    own = labels == label
    return float((logits[own].argmax(-1) == label).float().mean())
