"""Sets the bias of a class that a student has never seen, from class priors only.

Symbols: q_c(x) the student's probability of class c; pi_c the known share of class c in the test distribution; tau_c
the teacher's mean probability of c on the student's transfer set.

    shifted    q'_c ~ q_c pi_c / tau_c        z'_c = z_c + log(pi_c / tau_c)
    matched    z'_c = z_c + b_c with b_c such that  mean over x of softmax(z + b)_c = pi_c, for the missing class only

"shifted" is the rule of Saerens, Latinne, Decaestecker 2002 ("Adjusting the outputs of a classifier to new a priori
probabilities", eq. 4); it needs only the transfer set.  It is exact if p(x | class) is the same in both sets.  This
cannot hold for a class absent from the transfer set, where tau_c comes only from images of other classes.  "matched"
needs unlabelled images from the test distribution.  Hinton, Vinyals, Dean 2015, section 3, choose the bias on the test
set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flashstill.errors import BadInput

_FARTHEST, _HALVINGS = 60.0, 60


def shifted(logits: Tensor, transfer_prior: Tensor, prior: Tensor) -> Tensor:
    """Adapt logits [N, C], learned under class shares transfer_prior [C], to class shares prior [C]."""
    return logits + (prior / transfer_prior.clamp_min(torch.finfo(logits.dtype).tiny)).log()


def matching_bias(logits: Tensor, missing: int, prior: float) -> float:
    """The bias b of one class such that its mean probability over unlabelled images equals its prior; logits [N, C].

    The mean probability increases with b from 0 to 1; b is found by bisection.
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
    """Recall of a class: the share of its examples that are predicted correctly."""
    own = labels == label
    return float((logits[own].argmax(-1) == label).float().mean())
