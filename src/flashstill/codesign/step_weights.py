"""The closed form of serving as weights of its three steps: how much of each a request waits for, and pays for.

Time per output token and the time that a request stays (cost/closed_form.py) are sums of the seconds of a decode step,
a mixed step and a prefill pass, with weights that depend on load, layout and engine, but not on the chip; but for the
queue of prompts and what one pass costs in a pipeline beyond its own part of a stage, which are never negative and left
out here.  The joules of a token are such sums as well.  So bounds of
the steps give bounds of all of them (screening.py), which `tests/test_chip_search.py` holds against the closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.codesign.designs import Values
from flashstill.codesign.loads import DesignLoad
from flashstill.cost import Conditions
from flashstill.cost.load import (
    delaying_prompts,
    other_requests,
    passes_of,
    pieces_of,
    prefilling_stages,
    prompts_together,
)
from flashstill.cost.phases import working_share
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The closed form as weights of steps, each (layouts, batches). tpot_: the same of the time per output token."""

    once_s: Values
    decode: Values
    mixed: Values
    filled: Values
    tpot_decode: Values
    tpot_mixed: Values
    tpot_filled: Values
    ttft_filled: float

    def of(self, steps: Steps) -> Values:
        """The stay of a request, without what happens once."""
        stay: Values = self.decode * steps.decode + self.mixed * steps.mixed + self.filled * steps.filled
        return stay

    def tpot(self, steps: Steps) -> Values:
        """The time per output token."""
        one: Values = self.tpot_decode * steps.decode + self.tpot_mixed * steps.mixed + self.tpot_filled * steps.filled
        return one


@dataclass(frozen=True, slots=True)
class Steps:
    """Seconds of one chip, or its dynamic joules, of the three steps: (chips, layouts, batches)."""

    decode: Values
    mixed: Values
    filled: Values


def weights_of(conditions: Conditions, load: DesignLoad) -> Weights:
    """How often each step delays a request that stays: from the closed form, term by term."""
    software, traffic, layout = conditions.software, load.requests, load.chosen.layout
    batch = np.broadcast_to(load.chosen.batches, load.chosen.shape)
    local = layout.local_batch(batch)
    prompts, pieces = prompts_together(conditions, traffic, local), pieces_of(traffic)
    steps = load.share.osl - 1.0
    prefills = delaying_prompts(conditions, traffic, layout, batch) / np.maximum(steps, 1.0) * pieces / prompts
    joined, delayed, queued, _ = passes_of(software, layout, prefills, pieces, steps)
    runs = np.minimum(other_requests(layout, batch), 1.0) * software.ttft_ratio
    tpot = software.tpot_ratio * (1.0 if steps > 0 else 0.0)
    alone = np.maximum(software.first_ratio, local) / prompts  # with one output token a request waits for prefills only
    filled = software.first_ratio + steps * queued if steps > 0 else alone
    runs = runs if steps > 0 else 0.0 * runs
    shape = load.chosen.shape

    def whole(values: object) -> Values:
        return np.broadcast_to(np.asarray(values, dtype=np.float64), shape)

    return Weights(
        once_s=whole(software.first_token_s * software.ttft_ratio),
        decode=whole((runs + steps * tpot) * (1.0 - joined)),
        mixed=whole((runs + steps * tpot) * joined),
        filled=whole(filled * software.ttft_ratio + steps * tpot * delayed),
        tpot_decode=whole(tpot * (1.0 - joined)),
        tpot_mixed=whole(tpot * joined),
        tpot_filled=whole(tpot * delayed),
        ttft_filled=software.first_ratio * software.ttft_ratio if steps > 0 else 0.0,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How much of each step's work, and of its idle time, falls on an output token: (layouts, batches).

    Each step is done on all chips of the layout; prompts join decode steps in part, or have passes of their own.
    """

    decode: Values
    prompt: Values
    joined: Values
    idle_decode: Values
    idle_prompt: Values

    def work(self, steps: Steps) -> Values:
        """Of dynamic joules (or bytes) of one chip: those of a token."""
        more = self.joined * (steps.mixed - steps.decode) + (1.0 - self.joined) * steps.filled
        mine: Values = self.decode * steps.decode + self.prompt * np.maximum(more, 0.0)
        return mine

    def idle(self, steps: Steps) -> Values:
        """Of seconds: chip-seconds of a token, where a mixed step never takes less than the decode step in it."""
        mixed = self.joined * self.idle_prompt
        own = self.idle_decode - mixed
        at_least = np.where(own >= 0.0, mixed * steps.mixed + own * steps.decode, (mixed + own) * steps.mixed)
        mine: Values = at_least + (1.0 - self.joined) * self.idle_prompt * steps.filled
        return mine


def spread_of(conditions: Conditions, load: DesignLoad) -> Spread:
    """From the joules of the closed form (cost/closed_form.py), term by term."""
    software, traffic, layout, share = conditions.software, load.requests, load.chosen.layout, load.share
    shape = load.chosen.shape
    batch, chips = np.broadcast_to(load.chosen.batches, shape), np.broadcast_to(layout.chips, shape)
    prompts = prompts_of(conditions, load)
    steps = share.osl - 1.0
    prefills = (
        delaying_prompts(conditions, traffic, layout, batch) / np.maximum(steps, 1.0) * pieces_of(traffic) / prompts
    )
    mixed_in = passes_of(software, layout, prefills, pieces_of(traffic), steps).mixed
    share_of_steps = chips / batch * (steps / share.osl)

    def whole(values: Quantity) -> Values:
        return np.broadcast_to(np.asarray(values, dtype=np.float64), shape)

    return Spread(
        decode=whole(share_of_steps * working_share(load.model, layout, batch)),
        prompt=whole(chips / (prompts * layout.pp * layout.dp) / share.osl),
        joined=whole(mixed_in * pieces_of(traffic)),
        idle_decode=whole(share_of_steps),
        idle_prompt=whole(chips / (prompts * prefilling_stages(layout, batch)) / share.osl),
    )


def prompts_of(conditions: Conditions, load: DesignLoad) -> Values:
    """Prompts that are prefilled together, (layouts, batches)."""
    local = load.chosen.layout.local_batch(load.chosen.batches)
    return np.asarray(prompts_together(conditions, load.requests, local))
