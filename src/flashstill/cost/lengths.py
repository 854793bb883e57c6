"""Requests whose lengths vary: what a coefficient of variation of prompts and answers changes in the means.

    v, w    coefficients of variation (standard deviation over mean) of isl and of osl, which are independent; 0: equal
    S    = isl + osl/2 (1 + w^2)                    mean cached tokens of a sequence that decodes
    sd^2 = (v isl)^2 + osl^2/12 (1 + 6 w^2 + 5 w^4) variance of the same over the sequences that run
    L    = isl + osl + 3 ((v isl)^2 + (w osl)^2)^(1/2)   a long request, as memory must hold one
    p    = isl v^2/2                                tokens before those of a prompt of mean length with which attention
                                                    works as much as over all prompts, n^2/2 for one of n tokens

A long answer stays longer, so that of the sequences running at any time more are long than of all requests: a request
is met with a weight of its osl, at an age uniform up to it, whose moments are E[o^2]/(2 E[o]) and E[o^3]/(3 E[o]) of a
gamma distribution (exponential where w = 1).  With v = w = 0 every formula is that for equal lengths, to the last bit.
"""

from __future__ import annotations

import numpy as np

from flashstill.workload import Quantity

TAIL = 3.0
"""standard deviations of both lengths above the mean: one of some hundred requests is longer"""


def decoding_tokens(isl: Quantity, osl: Quantity, osl_cv: Quantity = 0.0) -> Quantity:
    """Mean cached tokens of a sequence while it decodes."""
    return isl + osl / 2.0 * (1.0 + osl_cv**2)


def long_request_tokens(
    isl: Quantity, osl: Quantity, isl_cv: Quantity = 0.0, osl_cv: Quantity = 0.0, context: Quantity = np.inf
) -> Quantity:
    """Tokens of a request at its full length, of a long one where lengths vary: none is longer than a model's context,
    unless the mean is."""
    mean = isl + osl
    tokens: Quantity = mean + TAIL * np.sqrt((isl_cv * isl) ** 2 + (osl_cv * osl) ** 2)
    return np.minimum(tokens, np.maximum(context, mean))


def reserved_tokens(isl: Quantity, osl: Quantity, osl_cv: Quantity = 0.0) -> Quantity:
    """Tokens of a request at its own full length, on average over the sequences that run."""
    return isl + osl * (1.0 + osl_cv**2)


def twelve_age_variances(osl_cv: Quantity) -> Quantity:
    """Twelve times the variance of a random moment's age of an answer (or of what it has left), over osl^2."""
    return 1.0 + 6.0 * osl_cv**2 + 5.0 * osl_cv**4


def held_deviation(isl: Quantity, osl: Quantity, isl_cv: Quantity = 0.0, osl_cv: Quantity = 0.0) -> Quantity:
    """Standard deviation of the cached tokens of a sequence that decodes, over those that run."""
    prompts = 12.0 * (isl_cv * isl / osl) ** 2
    varied: Quantity = osl / 12.0**0.5 * np.sqrt(twelve_age_variances(osl_cv) + prompts)
    return varied


def attended_tokens(isl: Quantity, isl_cv: Quantity) -> Quantity:
    """Tokens before a prompt of mean length with which attention to it works as much as over prompts that vary."""
    return isl * isl_cv**2 / 2.0
