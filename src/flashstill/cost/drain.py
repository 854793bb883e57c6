"""The end of a run: requests of a load generator that come to an end, so that fewer and fewer are in flight.

    N = c / B   requests of a run of which c are in flight, B of them come at once (Load.burst_share)
    x           what an answer has left when no further request comes, over the mean answer: of mean e, F(x) of c ended
    q, l        x with which c^(1/2) are left, and of the last: F(q) = 1 - c^(-1/2), F(l) = 1 - exp(-H_c)
    t(b)        seconds of a token with b in flight, on straight lines between t(1), t(c^(1/2)) and t(c)
    run       = (N - c e) osl t + N/c first + osl (q t(b_1) + (l - q) t(b_2))
    b_1, b_2    mean of those in flight in either stretch: c E[min(x, q)]/q and c (e - E[min(x, q)])/(l - q)

Answers of equal length end together.  Where they vary by w, x is gamma-distributed: of mean 1 and variation
w/B^(1/2) as long as requests are still in step with the burst that they began with, and as a random moment finds
answers (mean (1 + w^2)/2, lengths.py) once they have scattered: the one whose longest exceeds its mean by less, as a
slot that is ahead takes a request more.  Where w^2/B is above c, fewer than one of those running would have all that is
left: they have scattered.  The longest is that expected of exponential ones, which long ones are: H_c = 1 + 1/2 + ...
+ 1/c of their means.  A load that goes on (B = 0) has no end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flashstill.cost.lengths import decoding_tokens, twelve_age_variances
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """Decode steps of one sequence, and of the square root of those that run: seconds, and joules of all chips."""

    alone_s: Quantity
    alone_joules: Quantity
    few_s: Quantity
    few_joules: Quantity


def scattered_share(osl_cv: Quantity, burst_share: Quantity) -> Quantity:
    """How far requests that came together have scattered when a run ends: 1 where ends lie an answer apart, 0 if none
    varies."""
    apart = np.asarray(osl_cv) / np.sqrt(np.maximum(burst_share, 1e-9))
    share: Quantity = np.minimum(apart, 1.0)
    return share


def run_per_steady(
    osl: Quantity,
    osl_cv: Quantity,
    burst_share: Quantity,
    running: Quantity,
    first_s: Quantity,
    steady_s: Quantity,
    token_s: tuple[Quantity, Quantity, Quantity],
) -> Quantity:
    """Seconds (or joules) of a run over those that its requests take at the steady rate; 1 if nothing varies or ends.

    running: requests at once.  first_s: of a request's first token; steady_s: of each token after it, while prompts
    come.  token_s: of a token at the end, with one, the square root of those running, and all running.
    """
    is_several = np.sqrt(running) > 1.0  # in floats: not of one and a rounding error
    ends = (np.asarray(burst_share) > 0.0) & (np.asarray(osl_cv) > 0.0) & is_several
    some, share, cv = np.where(ends, running, 2.0), np.where(ends, burst_share, 1.0), np.where(ends, osl_cv, 1.0)
    left = _left(cv, share, some)
    alone_s, few_s, all_s = token_s
    few, tail = np.sqrt(some), np.maximum(left.last - left.middle, 1e-9)
    many = some * left.until_middle / left.middle
    some_left = np.clip(some * (left.mean - left.until_middle) / tail, 1.0, few)
    many_s = few_s + (all_s - few_s) * (many - few) / (some - few)
    some_s = alone_s + (few_s - alone_s) * (some_left - 1.0) / (few - 1.0)
    stay_s = (first_s + osl * steady_s) / share
    seconds = stay_s + osl * (left.middle * many_s + tail * some_s - left.mean * steady_s)
    return np.where(ends, seconds / stay_s, 1.0)


class _Left(NamedTuple):
    """What answers have left when no further request comes, in means of an answer: on average, with the square root of
    those running, and of the last; until_middle: on average of what comes before the middle one ends."""

    mean: Quantity
    middle: Quantity
    last: Quantity
    until_middle: Quantity


def _left(cv: Quantity, share: Quantity, running: Quantity) -> _Left:
    scattered = decoding_tokens(0.0, 1.0, cv)
    varied = np.sqrt(twelve_age_variances(cv) / 12.0) / scattered
    most = np.sqrt(running)  # see above
    since_burst = cv / np.sqrt(share)
    together = _gamma(1.0 + 0.0 * cv, np.minimum(since_burst, most), running)
    apart = _gamma(scattered, varied, running)
    is_in_step = (since_burst <= most) & (together.last - together.mean <= apart.last - apart.mean)
    return _Left(*(np.where(is_in_step, first, second) for first, second in zip(together, apart, strict=True)))


def _gamma(mean: Quantity, cv: Quantity, running: Quantity) -> _Left:
    """Of a gamma distribution. cv: from 1e-6 on, below which equal lengths are no different."""
    from scipy.special import gammainc, gammaincc, gammainccinv, psi  # only where lengths vary

    shape = np.maximum(cv, 1e-6) ** -2.0
    middle, last = (
        gammainccinv(shape, beyond) / shape for beyond in (running**-0.5, np.exp(-np.euler_gamma - psi(running + 1.0)))
    )
    before = gammainc(shape + 1.0, shape * middle) + middle * gammaincc(shape, shape * middle)  # E[min(x, middle)]
    return _Left(mean, mean * middle, mean * np.maximum(last, 1.0), mean * before)
