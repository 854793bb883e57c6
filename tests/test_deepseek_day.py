"""DeepSeek's day (open-infra-index, day 6 of 2025-02): nodes of 8 H800 from model, chip and published layouts.

One day of DeepSeek-V3/R1: 6.08e11 tokens in, 3.42e11 of them from the prefix cache, 1.68e11 out, on 226.75 nodes on
average (278 at the peak); prefill on EP32 (4 nodes) and decode on EP144 (18 nodes), each with 32 redundant experts and
two micro-batches overlapped; mean KV length 4989; 20 to 22 tokens/s a user.  Nothing was fitted to these rows.  The
engine is SGLang, the open one that runs these layouts; DeepSeek's own is not public.
"""

from __future__ import annotations

import numpy as np
import pytest

from flashstill.cost.footprint import most_sequences
from flashstill.cost.phases import batch_step, mixed_step
from flashstill.facts import load
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.scenario import Scenario
from flashstill.workload import Chunks, Decoding

SECONDS, CHIPS_OF_A_NODE = 86_400.0, 8
TOKENS_IN, CACHED, TOKENS_OUT = 6.08e11, 3.42e11, 1.68e11
CONTEXT, USER_TOKENS_PER_S = 4989.0, 21.0
NODES_AVERAGE, NODES_PEAK = 226.75, 278.0
# A context of isl + osl / 2 on average, and as many tokens in per token out as over the day.
OSL = CONTEXT / (TOKENS_IN / TOKENS_OUT + 0.5)
ISL = OSL * TOKENS_IN / TOKENS_OUT


def pool(chips: int, engine: str = "sglang") -> Resolved:
    """Attention by data parallelism over all chips, experts spread over all of them."""
    layout = Deployment(
        chip="h800-sxm", chips=chips, tp=1, dp=chips, ep=chips, redundant_experts=32, engine=engine, overlap="two-batch"
    )
    return resolve(load((), ()), Scenario(model="deepseek-v3", isl=round(ISL), osl=round(OSL), batch=1), layout)


def decode_nodes(engine: str = "sglang") -> float:
    """Nodes that decode the day's tokens at the users' pace."""
    used = pool(144, engine)
    batches = 144.0 * np.arange(16.0, 160.0, 4.0)
    seconds = np.asarray(batch_step(used.model, used.conditions, used.layout, batches, CONTEXT).seconds)
    room = float(most_sequences(used.model, used.conditions, used.layout, CONTEXT))
    batch = min(float(np.interp(1.0 / USER_TOKENS_PER_S, seconds, batches)), room)
    step = batch_step(used.model, used.conditions, used.layout, batch, CONTEXT)
    per_node = batch / float(np.asarray(step.seconds)) / (144 / CHIPS_OF_A_NODE)
    return TOKENS_OUT / SECONDS / per_node


def prefill_nodes(engine: str = "sglang", tokens: float = 8192.0) -> float:
    """Nodes that prefill the tokens that are not in the cache, in passes of so many on each chip."""
    used = pool(32, engine)
    past = ISL * CACHED / TOKENS_IN
    chunks = Chunks(count=tokens / (ISL - past), length=ISL - past, past=past)
    step = mixed_step(used.model, used.conditions, used.layout, Decoding(sequences=0.0, context=1.0), chunks)
    per_node = tokens * 32 / float(np.asarray(step.seconds)) / (32 / CHIPS_OF_A_NODE)
    return (TOKENS_IN - CACHED) / SECONDS / per_node


def test_the_day_needs_as_many_nodes_as_deepseek_had() -> None:
    """Within 20 % together.  Apart, prefill comes out a third below 6.08e11 / 86400 / 73,700 = 95 nodes, and decode a
    third above 1.68e11 / 86400 / 14,800 = 131: the two errors partly cancel."""
    decode, prefill = decode_nodes(), prefill_nodes()
    assert decode + prefill == pytest.approx(NODES_AVERAGE, rel=0.2)
    assert decode == pytest.approx(131.4, rel=0.35)
    assert prefill == pytest.approx(95.5, rel=0.35)


def test_the_size_of_a_prefill_pass_hardly_matters() -> None:
    assert prefill_nodes(tokens=4096.0) == pytest.approx(prefill_nodes(tokens=16384.0), rel=0.05)


def test_nodes_follow_the_load() -> None:
    """The average is 82 % of the peak. At the peak all nodes serve; were the peak's nodes kept all day, the load would
    leave them idle for a fifth of it, so nodes must have been released, as DeepSeek says they were at night."""
    assert decode_nodes() + prefill_nodes() < NODES_PEAK
    assert NODES_AVERAGE / NODES_PEAK < 0.85


def test_kernels_alone_need_fewer_nodes() -> None:
    """A perfect engine's kernels bound what any engine needs; DeepSeek's own lies between it and SGLang's."""
    alone = decode_nodes("none") + prefill_nodes("none")
    assert alone < NODES_AVERAGE
