"""Serving with prefill and decoding on pools of their own, in closed form; the cache travels between them.

Symbols: N requests in flight, of which b decode; X requests/s; E tokens per decode step; t(b) seconds of a decode step;
the prefill pool has k tensor-parallel groups, each of which prefills c prompts in T_p seconds.

    prefill   P = k c / T_p requests/s at most, or as many as the links carry; busy share r = X T_p / (k c)
    queue     W = T_p/(2 c k) r^(sqrt(2(k+1)) - 1) / (1 - r): half of an M/M/k queue, as passes do not vary
              (Sakasegawa 1977, equation 3); of a burst of N, B of all requests, the mean waits (N/k + c)/2 - 1 prompts
    transfer  K = hop + max(bytes sent by one chip, bytes received by one chip) / link rate
    first     F = first_s + first (T_p(c at this load) + (1 - B) W + B Q) + K, as in cost/closed_form.py
    balance   X = b / ((osl - 1) t(b) / E)   and   N = X F + b   decide b, at most what the decode pool's memory holds
    tpot      t(b) / E: no prefill delays a decode step
    ttft      N / X - (osl - 1) tpot (Little's law): F, and waiting for a place in the decode pool

So X approaches the lesser of what the two pools can do, P and N / (F + (osl - 1) tpot).  The first token leaves after
the transfer; engines that send the cache layer by layer during prefill hide a part of K, which is left out.
Splitting the phases so is DistServe (Zhong et al. 2024) and Splitwise (Patel et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.cost.admission import capacity
from flashstill.cost.conditions import Conditions
from flashstill.cost.footprint import most_sequences, sequence_bytes
from flashstill.cost.load import Load, prompts_of_a_pass
from flashstill.cost.phases import batch_step, prefill_step
from flashstill.cost.queues import wait_seconds
from flashstill.cost.serving import Serving
from flashstill.cost.speculation import Speculation
from flashstill.cost.step import StepCost
from flashstill.parallel import Layout
from flashstill.workload import Quantity

_POINTS, _HALVINGS = 24, 40
"""batches at which decode steps are priced, and halvings of the interval between them"""
_FEWEST = 1.0 / 64.0
"""least mean number of decoding sequences"""
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pools:
    """Layouts of one prefill instance and of the decode pool. instances: number of equal prefill instances."""

    prefill: Layout
    instances: Quantity
    decode: Layout

    @property
    def chips(self) -> Quantity:
        """Chips of both pools."""
        return self.prefill.chips * self.instances + self.decode.chips

    @property
    def groups(self) -> Quantity:
        """Groups of chips that prefill at the same time: replicas and pipeline stages of all prefill instances."""
        return self.instances * self.prefill.dp * self.prefill.pp


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolServing(Serving):
    """Rates of both pools together. batch: sequences that decode at the same time.

    transfer_s: seconds of one request's cache on its way.  busy_share: of the prefill pool's time.
    """

    transfer_s: Quantity
    busy_share: Quantity


def serve_apart(
    model: Architecture,
    conditions: Conditions,
    pools: Pools,
    load: Load,
    speculation: Speculation | None = None,
) -> PoolServing:
    """Price `load`, with osl above 1, on two pools; quantities broadcast. Joules exclude host and facility.

    `load.batching_steps` plays no part, as no decode steps run where prompts are prefilled.
    """
    prefill, decode = pools.prefill, pools.decode
    chip, software = conditions.chip, conditions.software
    drafted = speculation.tokens_per_step if speculation else 1.0
    steps = (load.osl - 1.0) / drafted
    context = load.context
    room = most_sequences(model, conditions, prefill, load.isl) / (prefill.dp * prefill.pp)
    most_prompts = np.minimum(prompts_of_a_pass(conditions, load), load.concurrency / pools.groups)
    prompts = np.maximum(np.minimum(most_prompts, room), 1.0)
    full = prefill_step(model, conditions, prefill, prompts, load.computed, chunk=load.chunk, past=load.past)
    single = prefill_step(model, conditions, prefill, 1.0, load.computed, chunk=load.chunk, past=load.past)
    cacheless_s = full.seconds
    if np.any(load.cached):
        cacheless_s = prefill_step(
            model, conditions, prefill, prompts, load.computed, chunk=load.chunk, past=load.spread
        ).seconds
    sent_bytes, transfer_s = transfer(model, conditions, pools, load.isl)
    prefills = pools.groups * prompts / full.seconds
    most = np.minimum(prefills, np.minimum(pools.instances * prefill.dp, decode.dp) / transfer_s)
    prompt_s = full.seconds / prompts
    ahead = (load.concurrency / pools.groups + prompts) / 2.0 - 1.0
    burst_s = np.where(load.concurrency > pools.groups, np.maximum(ahead, 0.0), 0.0) * prompt_s
    alone, held = capacity(model, conditions, decode, load, speculation)
    fitting = np.maximum(held, 1.0)  # as in `serve`: where not one fits, the batch returned is 0

    def first_s(rate: Quantity) -> Quantity:
        busy = np.minimum(rate / prefills, 1.0 - 1e-9)
        own_s = single.seconds + busy * (full.seconds - single.seconds)
        steady_s = wait_seconds(prompt_s, pools.groups, busy) * (1.0 + load.isl_cv**2)
        queue_s = (1.0 - load.burst_share) * steady_s + load.burst_share * burst_s
        return software.first_token_s + software.first_ratio * (own_s + queue_s) + transfer_s

    def step_of(batch: Quantity) -> StepCost:
        return batch_step(model, conditions, decode, batch, context, speculation)

    batch = np.minimum(_decoding(load, steps, most, first_s, lambda size: step_of(size).seconds), fitting)
    step = step_of(batch)
    tpot_s = step.seconds / drafted
    decoding_s = steps * step.seconds
    rate = np.minimum(_requests_per_s(load, decoding_s, most, first_s), fitting / decoding_s)
    busy = rate / prefills
    working = full.total_joules / (prompts * prefill.dp * prefill.pp)
    waiting = (1.0 / rate - 1.0 / prefills) * prefill.chips * pools.instances * chip.waiting_w
    moved = sent_bytes * transfer_joules_per_byte(conditions)
    joules = (step.total_joules / batch * steps + working + waiting + moved) / load.osl
    tokens_per_s = rate * load.osl
    prefilling, found = prefill.chips * pools.instances / pools.chips, np.maximum(1.0 - cacheless_s / full.seconds, 0.0)
    return PoolServing(
        tpot_s=tpot_s,
        ttft_s=load.concurrency / rate - (load.osl - 1.0) * tpot_s,
        output_tokens_per_s=tokens_per_s,
        joules_per_output_token=joules,
        watts_per_chip=np.minimum(joules * tokens_per_s / pools.chips, chip.power_limit_w),
        input_share=prefilling * (1.0 - found),
        cached_share=prefilling * found,
        batch=np.where((alone >= 1.0) & (room * prefill.dp * prefill.pp >= 1.0), batch, 0.0),
        fitting=held,
        decode=step,
        prefill=full,
        transfer_s=transfer_s,
        busy_share=busy,
    )


def transfer(
    model: Architecture, conditions: Conditions, pools: Pools, tokens: Quantity, sender: Conditions | None = None
) -> tuple[Quantity, Quantity]:
    """Bytes of one sequence's cache on its way from the prefill to the decode pool, and its seconds.

    Each chip of the receiving group gets what it will hold, from the chips of the sending group in equal parts: over
    the fast links if one domain joins both pools, else over the network beyond it.  conditions: of the decode pool;
    sender: of a prefill pool on another kind of chip, which no domain joins: the slower side's network decides.
    """
    chip, calibration = conditions.chip, conditions.calibration
    received = sequence_bytes(model, tokens, conditions.precisions.widths, pools.decode)
    moved = received * pools.decode.tp * pools.decode.pp
    sent = moved / (pools.prefill.tp * pools.prefill.pp)
    if sender is not None:
        sent_s = sent / (sender.chip.system.scale_out_bytes_per_s * sender.calibration.link_efficiency)
        received_s = received / (chip.system.scale_out_bytes_per_s * calibration.link_efficiency)
        return moved, np.maximum(sender.calibration.hop_s, calibration.hop_s) + np.maximum(sent_s, received_s)
    near = np.asarray(pools.chips) <= chip.system.domain_chips
    rate = np.where(near, chip.topology.link_bytes_per_s, chip.system.scale_out_bytes_per_s)
    seconds = calibration.hop_s + np.maximum(sent, received) / (rate * calibration.link_efficiency)
    return moved, seconds


def transfer_joules_per_byte(conditions: Conditions, sender: Conditions | None = None) -> Quantity:
    """Joules of a byte between pools; on two kinds of chips each spends the half at its own end."""
    other = sender or conditions
    return (conditions.chip.system.scale_out_joules_per_byte + other.chip.system.scale_out_joules_per_byte) / 2.0


def _requests_per_s(
    load: Load, decoding_s: Quantity, most: Quantity, first_s: Callable[[Quantity], Quantity]
) -> Quantity:
    """X of N = X (F(X) + decoding_s), at most `most`; F grows with X, so that halving finds it."""
    low: Quantity = 0.0 * decoding_s
    high = np.minimum(most, load.concurrency / decoding_s)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        over = middle * (first_s(middle) + decoding_s) > load.concurrency
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return low


def _decoding(
    load: Load,
    steps: Quantity,
    most: Quantity,
    first_s: Callable[[Quantity], Quantity],
    seconds_of: Callable[[Quantity], Quantity],
) -> Values:
    """b: sequences that decode at the same time, where those before their first token make up the rest of the load.

    Steps are priced at a few batches and interpolated between them, in logarithms; b is found by halving.  It decides
    only which step is priced: requests/s and seconds to the first token then follow from that step exactly.
    """
    whole = np.asarray(load.concurrency, dtype=np.float64)
    span = np.log(whole) - np.log(_FEWEST)
    places = np.linspace(0.0, 1.0, _POINTS).reshape(-1, *[1] * np.ndim(steps * most * whole))
    table = np.log(seconds_of(_FEWEST * np.exp(places * span)))
    shape = np.broadcast_shapes(table.shape[1:], np.shape(steps * most * whole))
    table = np.broadcast_to(table, (_POINTS, *shape))

    def excess(place: Values) -> Values:
        at = np.clip(place * (_POINTS - 1), 0.0, _POINTS - 1 - 1e-9)
        left = at.astype(np.intp)[None]
        low, high = np.take_along_axis(table, left, 0)[0], np.take_along_axis(table, left + 1, 0)[0]
        batch = _FEWEST * np.exp(place * span)
        rate = batch / (steps * np.exp(low + (at - left[0]) * (high - low)))
        return np.where(rate >= most, np.inf, batch + rate * first_s(rate) - whole)

    low, high = np.zeros(shape), np.ones(shape)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        over = excess(middle) > 0
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    found: Values = _FEWEST * np.exp(low * span)
    return found
