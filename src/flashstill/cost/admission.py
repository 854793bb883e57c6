"""Requests that run at once: how many fit in memory, and how many of those in flight wait for it.

Requests hold isl + osl/2 cached tokens on average (more where answers vary, lengths.py), and more where an engine
reserves memory for tokens to come.  As they are at different points of their answers, the number n that fits varies, so
that some of c wait before all memory is taken: E[max(c - n, 0)] = w ln(1 + exp((c - n)/w)) for n of a logistic
distribution with scale w.
"""

from __future__ import annotations

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost.conditions import Conditions
from flashstill.cost.footprint import held_tokens, most_of_each
from flashstill.cost.lengths import held_deviation, reserved_tokens
from flashstill.cost.load import Load
from flashstill.cost.speculation import Speculation
from flashstill.parallel import Layout
from flashstill.workload import Quantity


def capacity(
    model: Architecture, conditions: Conditions, layout: Layout, load: Load, speculation: Speculation | None = None
) -> tuple[Quantity, Quantity]:
    """Sequences that fit at full length, and at the mean length held; memory of a draft model is included."""
    draft = speculation.draft if speculation else None
    longest = load.longest(model.context)
    held = held_tokens(conditions, load.context, reserved_tokens(load.isl, load.osl, load.osl_cv))
    alone, fitting = most_of_each(model, conditions, layout, (longest, held), draft)
    return alone, fitting


def running_requests(conditions: Conditions, load: Load, fitting: Quantity) -> Quantity:
    """Mean number of requests that run at once, of those in flight, if `fitting` fit on average.

    Each holds isl + osl/2 tokens with a standard deviation of osl/sqrt(12), or as lengths.py has it where they vary;
    those of a burst are in phase.  The expected number that waits is that of a logistic distribution with the same
    standard deviation.
    """
    fitting = np.maximum(fitting, 1.0)
    free = 1.0 - conditions.software.reserved_ratio  # memory reserved at admission does not vary
    relative = free * held_deviation(load.isl, load.osl, load.isl_cv, load.osl_cv) / load.context
    others = np.maximum(np.minimum(load.concurrency, fitting) - 1.0, 0.0)
    deviation = relative * np.sqrt(others * (1.0 - load.burst_share) + others**2 * load.burst_share)
    scale = np.maximum(deviation * 3.0**0.5 / np.pi, 1e-9)
    waiting = scale * np.logaddexp(0.0, (load.concurrency - fitting) / scale)
    running: Quantity = np.maximum(load.concurrency - waiting, 1.0)
    return running
