"""Seconds and joules of one long sequence over many chips: its prefill, and steps that attend to all of it.

    prefill   t = rest + attention + max(links - attention (c-1)/c, 0) + merging + (c-1) launches
                                              a ring of c parts, which has c-1 blocks to send and attends to the last
                                              one with nothing left to send; a kernel of attention for every block
              t = rest + attention + links    keys and values gathered before each layer
    step      attention over 1/c of the cache on every chip, all other products over the `wide` chips with which a step
              is fastest; chips beyond them wait
    holds     weights of a chip + L bytes per token / (c shards)  <=  usable bytes      (cost/footprint.py)

Chips are tp x parts.  With one part these are `prefill_step` and `decode_step`.  All degrees may be arrays.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from math import gcd

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.cost.chip_work import ChipWork, chip_work
from flashstill.cost.conditions import Conditions
from flashstill.cost.footprint import room_bytes, sequence_bytes
from flashstill.cost.phases import overhead_seconds, with_sampling
from flashstill.cost.step import StepCost, on_chips
from flashstill.parallel import Layout, shard
from flashstill.parallel.context import (
    KEYS_AND_VALUES,
    cached_before,
    decode_of_a_part,
    merging,
    prefill_exchanges,
    prefill_of_a_part,
    ring_layers,
)
from flashstill.workload import Attention, IndexScores, Operation, Quantity, decode, prefill

Values = npt.NDArray[np.float64]


def context_layout(model: Architecture, tp: Quantity, parts: Quantity) -> Layout:
    """The layout of tp x parts chips in which the parts of a sequence are data-parallel replicas."""
    return Layout(tp=tp, dp=parts, ep=_expert_groups(model, tp * parts))


def context_prefill(
    model: Architecture,
    conditions: Conditions,
    tp: Quantity,
    parts: Quantity,
    tokens: Quantity,
    ring: bool = True,
) -> StepCost:
    """Prefill of one sequence of `tokens` over `parts` groups of `tp` chips.

    ring: sends are hidden by the attention of the layers that send; keys and values are passed on in a ring where
    that is faster than to gather those of a layer first, or these do not fit; the ends of windows, and states, arrive
    while others are attended to.
    """
    layout, widths = context_layout(model, tp, parts), conditions.widths
    before = cached_before(tokens, parts)
    whole = prefill(model, 1.0, tokens / parts, widths, before, conditions.skew)
    sharded = shard(prefill_of_a_part(whole, parts), layout)
    attending = chip_work(conditions, [each for each in sharded.operations if _attends(each)])
    rest = chip_work(
        conditions,
        [each for each in sharded.operations if not _attends(each)],
        sharded.exchanges,
        overhead_seconds(model, conditions, 1.0),
    )
    sent = prefill_exchanges(model, widths, tp, parts, tokens)
    sending = chip_work(conditions, (), sent)
    gathered = rest.plus(attending).plus(sending)
    step = on_chips(conditions, gathered, layout.chips)
    if ring and sent:
        blocks = prefill(
            replace(model, layers=ring_layers(model)), 1.0, tokens / parts, widths, before, conditions.skew
        )
        of_blocks = [each for each in shard(blocks, layout).operations if _attends(each)]
        attended = chip_work(conditions, of_blocks)
        passed_s = chip_work(conditions, (), [each for each in sent if each.name == KEYS_AND_VALUES]).seconds
        nearby_s = np.minimum(sending.seconds - passed_s, attending.seconds - attended.seconds)
        gathered = gathered.lasting("links", -np.maximum(nearby_s, 0.0))
        merged = chip_work(conditions, [merging(each, parts) for each in of_blocks if isinstance(each, Attention)])
        launches_s = (parts - 1.0) * attended.shares_s["overhead"]
        passed = gathered.lasting("links", -np.minimum(passed_s, attended.seconds * (parts - 1.0) / parts))
        passed = passed.plus(merged).lasting("overhead", launches_s)
        step, around = (on_chips(conditions, work, layout.chips) for work in (gathered, passed))
        layers = [np.asarray(each.bytes) for each in sent if each.name == KEYS_AND_VALUES]
        own = sequence_bytes(model, tokens, conditions.precisions.widths, replace(layout, dp=1.0)) / parts
        left = room_bytes(model, conditions, layout) - own
        full = (left >= 0.0) & (reduce(np.maximum, layers, np.zeros(())) > left)  # what never fits is refused elsewhere
        step = step.where(np.asarray((around.seconds < step.seconds) | full), around)
    return with_sampling(step, model, conditions, 1.0)


def context_step(
    model: Architecture,
    conditions: Conditions,
    tp: Quantity,
    parts: Quantity,
    sequences: Quantity,
    context: Quantity,
    queries: Quantity = 1.0,
) -> StepCost:
    """A step in which `sequences` sequences compute `queries` new tokens each and attend to `context` cached ones.

    Questions that share one cached corpus are one sequence with a query each: the cache is read once for all.
    """
    chips = np.asarray(tp * parts, dtype=np.float64)
    doublings = np.arange(int(np.log2(np.max(chips))) + 1.0)
    wide = np.minimum(np.asarray(tp, dtype=np.float64)[..., None] * 2.0**doublings, chips[..., None])
    group, portions, there = (np.asarray(each, dtype=np.float64)[..., None] for each in (tp, parts, chips))
    loads = [np.asarray(each, dtype=np.float64)[..., None] for each in (sequences, context, queries)]
    operations = decode(model, loads[0], loads[1], conditions.widths, loads[2], conditions.skew)
    attending, others, exchanges = decode_of_a_part(operations, group, portions)
    # What is not attention depends on `wide` alone, which many ways share: it is priced once for each.
    distinct, where = np.unique(wide, return_inverse=True)
    spread = shard(others, Layout(tp=distinct, ep=_expert_groups(model, distinct)))
    rest = chip_work(conditions, spread.operations, spread.exchanges, overhead_seconds(model, conditions, loads[0]))
    rest = _looked_up(rest, where.reshape(wide.shape), len(distinct))
    work = chip_work(conditions, attending, exchanges).plus(_on_share(rest, wide / there))
    step = with_sampling(on_chips(conditions, work, there), model, conditions, loads[0] * loads[2])
    return _fastest(step)


def context_room_bytes(model: Architecture, conditions: Conditions, tp: Quantity, parts: Quantity) -> Quantity:
    """Bytes that the weights leave for cache on each chip; negative where the weights do not fit."""
    return room_bytes(model, conditions, context_layout(model, tp, parts))


def sequences_held(
    model: Architecture, conditions: Conditions, tp: Quantity, parts: Quantity, tokens: Quantity
) -> Quantity:
    """Number of sequences of `tokens` whose cache fits on tp x parts chips; below 1 if not even one does."""
    layout = context_layout(model, tp, parts)
    one = sequence_bytes(model, tokens, conditions.precisions.widths, replace(layout, dp=1.0)) / parts
    return np.maximum(room_bytes(model, conditions, layout), 0.0) / np.maximum(one, 1e-9)


def _attends(operation: Operation) -> bool:
    return isinstance(operation, Attention | IndexScores)


def _looked_up(work: ChipWork, places: npt.NDArray[np.intp], count: int) -> ChipWork:
    """The work at `places` of its last axis, which has `count` entries."""

    def at(values: Quantity) -> Quantity:
        if not np.ndim(values):
            return values
        shape = np.broadcast_shapes(np.shape(values)[:-1], places.shape[:-1])
        held = np.broadcast_to(values, (*shape, count))
        found: Quantity = np.take_along_axis(held, np.broadcast_to(places, (*shape, places.shape[-1])), axis=-1)
        return found

    return ChipWork(
        shares_s={name: at(value) for name, value in work.shares_s.items()},
        joules={name: at(value) for name, value in work.joules.items()},
        macs=at(work.macs),
        clocked_s=at(work.clocked_s),
    )


def _on_share(work: ChipWork, share: Quantity) -> ChipWork:
    """The work of one chip where only `share` of the chips do it: per chip of all, for the time of those that do."""
    return replace(work, joules={name: value * share for name, value in work.joules.items()}, macs=work.macs * share)


def _fastest(step: StepCost) -> StepCost:
    """Along the last axis, the step with the least seconds."""
    shape = np.shape(step.seconds)
    best = np.argmin(step.seconds, axis=-1)[..., None]

    def chosen(values: Quantity) -> Quantity:
        taken: Quantity = np.take_along_axis(np.broadcast_to(values, shape), best, axis=-1)[..., 0]
        return taken if np.ndim(taken) else float(taken)

    return step.each(chosen)


def _expert_groups(model: Architecture, chips: Quantity) -> Quantity:
    """Expert groups of so many chips: as many as divide both the chips and the experts of every layer."""
    experts = reduce(gcd, (layer.ffn.experts for layer in model.layers if layer.ffn.experts), 0)
    if not experts:
        return 1.0
    groups: Quantity = np.gcd(np.rint(np.asarray(chips)).astype(np.int64), experts).astype(np.float64)
    return groups
