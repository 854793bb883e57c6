"""All layouts and batches of one chip, precision and placement, priced in one call.

A step's cost depends only on the work of one tensor-parallel group, not on the pipeline stages or on sequences in other
groups.  So steps are priced on four short axes (tp, dp, ep, sequences of a group) and looked up for every
configuration; only the closed form of serving runs over all configurations.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.cost import Conditions, Load, Speculation
from flashstill.cost.phases import (
    decode_step,
    head_share,
    mixed_step,
    prefill_step,
    sends,
    verified_queries,
    verify_step,
    working_share,
)
from flashstill.cost.serving import Pace, Paces, capacity, chunks_of, closed_form, prompts_together
from flashstill.parallel import Layout, layout_reason
from flashstill.workload import Decoding, Quantity

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Layouts and batches to price. degrees: (4, layouts, 1), in the order tp, pp, ep, dp; batches: (1, batches).

    axes: the distinct tp, dp, ep, and sequences of a group.  at: flat index of each configuration into their grid.
    refused: number of layouts that cannot be built, by reason.
    """

    degrees: Values
    batches: Values
    axes: tuple[Values, ...]
    at: Places
    refused: Counter[str]

    @property
    def layout(self) -> Layout:
        """All layouts as one `Layout` of arrays."""
        return Layout(tp=self.degrees[0], pp=self.degrees[1], ep=self.degrees[2], dp=self.degrees[3])

    @property
    def shape(self) -> tuple[int, int]:
        """(layouts, batches)."""
        return self.degrees.shape[1], self.batches.shape[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Priced:
    """Figures of all candidates, each of shape (layouts, batches). room: sequences that fit at the same time."""

    pace: Pace
    room: Values


Degrees = tuple[int, int, int, int]


def layouts_of(model: Architecture, most: int) -> tuple[list[Degrees], Counter[str]]:
    """Layouts (tp, pp, ep, dp) in powers of two on up to `most` chips; and rejected ones, counted by reason."""
    powers = [2**power for power in range(most.bit_length()) if 2**power <= most]
    routed = model.routed
    layouts: list[Degrees] = []
    refused = Counter[str]()
    for tp, pp, dp in itertools.product(powers, powers, powers):
        if tp * pp * dp > most or (dp > 1 and not routed):
            continue  # skip: replicas of a dense model equal one replica at a smaller batch
        for ep in [power for power in powers if power <= tp * dp] if routed else [1]:
            reason = layout_reason(model, tp, pp, ep, dp)
            if reason is None:
                layouts.append((tp, pp, ep, dp))
            else:
                refused[reason.split(":")[0]] += 1
    return layouts, refused


def candidates(layouts: Sequence[Degrees], refused: Counter[str], batches: tuple[int, ...]) -> Candidates:
    """Every layout combined with every batch."""
    degrees = np.array(layouts, dtype=np.float64).reshape(-1, 4).T[:, :, None]
    asked = np.array(batches, dtype=np.float64)[None, :]
    shape = (degrees.shape[1], asked.shape[1])
    local = Layout(tp=degrees[0], pp=degrees[1], dp=degrees[3]).local_batch(asked)
    of_layouts = [np.unique(degrees[index], return_inverse=True) for index in (0, 3, 2)]
    sequences, where = np.unique(local, return_inverse=True)
    axes = (*(values for values, _ in of_layouts), sequences)
    places = [np.broadcast_to(inverse.reshape(-1, 1), shape) for _, inverse in of_layouts]
    at = np.ravel_multi_index((*places, where.reshape(shape)), tuple(len(axis) for axis in axes))
    return Candidates(degrees=degrees, batches=asked, axes=axes, at=at, refused=refused)


def priced(
    model: Architecture,
    conditions: Conditions,
    chosen: Candidates,
    isl: float,
    osl: float,
    speculation: Speculation | None,
) -> Priced:
    """Time and energy of every candidate, whether or not it fits."""
    layout, load = chosen.layout, Load(isl=isl, osl=osl, concurrency=chosen.batches)
    tp, dp, ep, sequences = np.ix_(*chosen.axes)
    group = Layout(tp=tp, ep=ep, dp=dp)
    grid = tuple(len(axis) for axis in chosen.axes)
    prompts = prompts_together(load, sequences)
    few, back = np.unique(prompts, return_inverse=True)
    step = decode_step(model, conditions, group, sequences, isl + osl / 2.0, speculation)
    passed = prefill_step(model, conditions, group, few, isl)
    queries = verified_queries(speculation)
    tokens = Decoding(sequences=sequences, context=isl + osl / 2.0, queries=queries)
    mixed = mixed_step(model, conditions, group, tokens, chunks_of(load, prompts))
    verified = step if speculation is None else verify_step(model, conditions, group, tokens)

    def per_chip(total: Quantity) -> Quantity:
        return total / group.chips

    def decoding(quantity: Quantity) -> Values:
        return np.broadcast_to(quantity, grid).reshape(-1)[chosen.at]

    def filling(quantity: Quantity) -> Values:
        return decoding(np.broadcast_to(quantity, (*grid[:3], len(few)))[..., back.reshape(-1)])

    def adding(more: Quantity, less: Quantity) -> Quantity:
        return decoding(per_chip(more - less)) * layout.chips

    local = layout.local_batch(chosen.batches)
    together = prompts_together(load, local)
    after_mixed = sends(model, conditions, layout, local * queries + chunks_of(load, together).tokens)
    after_step = sends(model, conditions, layout, local * queries)
    after_pass = sends(model, conditions, layout, together * isl)
    heads = 1.0 + speculation.tokens * head_share(model) if speculation and speculation.draft is None else 1.0
    work = decoding(per_chip(step.work_joules)) * layout.chips + heads * after_step.work_joules
    timed = decoding(per_chip(step.timed_joules)) * layout.chips + heads * after_step.timed_joules
    paces = Paces(
        step_s=decoding(step.seconds) + heads * after_step.seconds,
        step_joules=work * working_share(model, layout, chosen.batches) + timed,
        mixed_s=decoding(mixed.seconds) + after_mixed.seconds - (decoding(verified.seconds) + after_step.seconds),
        mixed_joules=adding(mixed.total_joules, verified.total_joules)
        + (after_mixed.total_joules - after_step.total_joules),
        mixed_timed_joules=adding(mixed.timed_joules, verified.timed_joules)
        + (after_mixed.timed_joules - after_step.timed_joules),
        pass_s=filling(passed.seconds) + after_pass.seconds,
        pass_joules=filling(per_chip(passed.total_joules)) * layout.chips + after_pass.total_joules,
        pass_timed_joules=filling(per_chip(passed.timed_joules)) * layout.chips + after_pass.timed_joules,
        prompts=together,
    )
    alone, fitting = capacity(model, conditions, layout, load, speculation)
    room = np.where(np.asarray(alone) >= 1.0, fitting, 0.0)
    batch = np.broadcast_to(chosen.batches, chosen.shape)
    pace = closed_form(conditions, layout, load, batch, paces, speculation)
    return Priced(pace=pace, room=np.broadcast_to(room, chosen.shape))
