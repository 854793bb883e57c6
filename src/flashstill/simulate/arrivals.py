"""Requests in order of arrival, as arrays: what every source of traffic makes and the event loop takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flashstill.simulate.state import Counts, Values

NO_KEYS = np.zeros(0, dtype=np.int64)


class Arrivals(NamedTuple):
    """Requests in order of arrival: seconds, prompt and output tokens, prompt tokens found in a prefix cache.

    key_ends [N], keys: names of the hash blocks of each request's tokens; those of request i are
    keys[key_ends[i - 1]:key_ends[i]].  Equal names mean that all tokens up to the block's end are equal.
    Empty without names.
    """

    arrival_s: Values
    prompt: Counts
    output: Counts
    cached: Counts
    key_ends: Counts = NO_KEYS
    keys: Counts = NO_KEYS
