"""Worked problems of the scaling book as questions to the cost model; test_scaling_book.py has the book's answers.

Everything is asked of a perfect machine: no floors, every peak reached, nothing added by software.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from flashstill.arch import load_architecture
from flashstill.cost import Conditions, Precisions, make_conditions, step_cost, uniform
from flashstill.cost.footprint import most_sequences, usable_bytes
from flashstill.cost.links import link_cost, transfer
from flashstill.cost.operations import operation_seconds
from flashstill.cost.training import train_step
from flashstill.cost.training_footprint import activation_bytes, state_bytes
from flashstill.facts import load
from flashstill.hardware import Memory, chip_from_facts
from flashstill.hardware.calibration import PERFECT
from flashstill.hardware.software import NO_SOFTWARE
from flashstill.parallel import Layout, shard
from flashstill.parallel.training import TrainingPlan
from flashstill.workload import (
    EVEN,
    Attention,
    Experts,
    Matmul,
    Operation,
    Widths,
    cache_bytes,
    decode,
    memory_bytes,
)
from flashstill.workload.training import model_flops

FACTS = load()
MODEL = load_architecture("llama-3-70b")
WHOLE = 256 * 132  # columns that fill the tiles of every array and whole waves of 132 processors
INT8 = Widths(weight=1.0, kv=1.0)
CORPUS, BATCH, LENGTH = 15e12, 4 * 1024 * 1024, 8192.0  # tokens of Llama 3's training, of one step, of a sequence


def perfect(name: str, precision: str = "bf16") -> Conditions:
    return make_conditions(chip_from_facts(FACTS, name), uniform(precision)).perfect


def product(
    rows: float, columns: float = WHOLE, depth: float = 8192, value_bytes: float = 2.0, beside: float = 0.0
) -> Matmul:
    """beside: bytes of each value that is read or written beside the weights."""
    return Matmul(
        name="product",
        rows=rows,
        columns=columns,
        depth=depth,
        value_bytes=value_bytes,
        input_value_bytes=beside,
        output_value_bytes=beside,
    )


def balance(conditions: Conditions, make: Callable[[float], Operation]) -> float:
    """Rows at which a product takes as long in arithmetic as in memory: both are linear over whole tiles."""
    few, many = 128.0, 256.0
    spare = []
    for rows in (few, many):
        timing = operation_seconds(conditions, make(rows))
        spare.append(float(timing.compute_s - timing.memory_s))
    return few - spare[0] * (many - few) / (spare[1] - spare[0])


# 1: rooflines


def crossover(name: str, precision: str, value_bytes: float) -> float:
    return balance(perfect(name, precision), lambda rows: product(rows, value_bytes=value_bytes))


def contraction_over_two_chips() -> float:
    """The depth at which half the products take as long as adding up both halves of the result."""
    depth, rows = 8192.0, 4096.0
    half = replace(product(rows, WHOLE, depth), split="rows", reduce_bytes=2.0 * rows * WHOLE)
    shares = step_cost(perfect("tpu-v5e"), shard([half], Layout(tp=2.0)), 2.0).shares_s
    return depth * float(shares["links"] / shares["compute"])


def intensity_of_own_experts() -> float:
    """Every token through a matrix of its own: as many experts as tokens, dealt evenly."""
    own = Experts(
        name="own", tokens=64.0, experts=64, chosen=1, local_experts=64.0, width=4096, ffn_width=16384, matrices=1
    )
    own = replace(own, skew=EVEN, value_bytes=1.0)
    return float(own.flops / own.weight_bytes)


def intensity_of_a_cache() -> float:
    """The same product in a decoder: every query head meets keys and values of its own (GPT-3), cached in int8."""
    operations = decode(load_architecture("gpt-3"), 32.0, 2000.0, INT8)
    (found,) = [operation for operation in operations if isinstance(operation, Attention)]
    return float(found.flops / found.kv_bytes)


def teraflop_ms(name: str) -> float:
    work = product(2**17)
    return 1e3 * float(operation_seconds(perfect(name), work).compute_s / work.flops) * 1e12


# 2: TPUs


def load_ms() -> float:
    weights = product(1.0, 4e5, 5e5)  # 2e11 values
    return 1e3 * float(step_cost(perfect("tpu-v4"), shard([weights], Layout(tp=32.0)), 32.0).shares_s["memory"])


def pod_flops_per_s(name: str) -> float:
    conditions = perfect(name)
    chips = float(conditions.chip.system.domain_chips)
    work = product(4096.0, WHOLE * chips)
    return float(work.flops / step_cost(conditions, shard([work], Layout(tp=chips)), chips).shares_s["compute"])


def pod_bytes(name: str, *edits: str) -> float:
    machine = chip_from_facts(FACTS.edited(edits), name)
    return machine.system.domain_chips * machine.memory.bytes


def pod_tebibytes() -> float:
    return pod_bytes("tpu-v5e") / 2**40


def over_pcie() -> float:
    """Weights in the host's memory behind a link of 15 GB/s."""
    host = Memory(name="host", bytes=1e12, visible_bytes=1e12, bytes_per_s=1.5e10, joules_per_byte={})
    return balance(replace(perfect("tpu-v6e"), weights=host), product)


def int8_product(tier: str) -> float:
    """int8[B, 4096] by int8[4096, 16384], everything from one memory."""
    conditions = perfect("tpu-v5e", "int8")
    memory = conditions.chip.tier(tier)
    conditions = replace(conditions, chip=replace(conditions.chip, tiers=(memory,)), weights=memory, cache=memory)
    return balance(conditions, partial(product, columns=16384, depth=4096, value_bytes=1.0, beside=1.0))


def across_a_slice_us(byte: int) -> float:
    """bf16[8, 128, 8192] from corner to corner of 4 x 4 chips, 1 us a hop: the first or the last byte."""
    hops = replace(PERFECT, hop_s=1e-6)
    size = 2.0 * 8 * 128 * 8192
    return 1e6 * transfer(chip_from_facts(FACTS, "tpu-v5e"), hops, size, 16, (0, 0), (3, 3))[byte]


# 6: training Llama 3 70B


def parameters() -> float:
    return MODEL.parameters


def training_flops(tokens: float) -> float:
    """Sequences of one token, since the book leaves attention to others out."""
    return float(model_flops(MODEL, tokens, 1.0))


def days() -> float:
    """At 40 % of the peaks of a pod. Short sequences: the book leaves attention out."""
    chips, short = 8960.0, 128.0
    found = train_step(MODEL, perfect("tpu-v5p"), TrainingPlan(batch=chips, length=short, fsdp=chips))
    tokens_per_s = float(found.tokens_per_s) * chips * 0.4 / float(found.mfu)
    return CORPUS / tokens_per_s / 86400.0


def fewest_chips(checkpoints: float) -> float:
    """Chips of 96 GB over which parameters, moments and `checkpoints` saved activations a layer just fit."""
    chips = np.arange(100.0, 400.0)
    batch = 4e6 / LENGTH
    plan = TrainingPlan(batch=batch, length=LENGTH, microbatch=batch / chips, fsdp=chips, recompute="full")
    plan = replace(plan, gradient_bytes=0.0, optimizer_bytes=8.0)
    memory = chip_from_facts(FACTS.edited(["tpu-v5p.memory_bytes=9.6e10"]), "tpu-v5p").memory
    needed = state_bytes(MODEL, plan) + checkpoints * activation_bytes(MODEL, plan)
    return float(chips[needed <= memory.bytes][0])


def mixed() -> tuple[float, float, float]:
    """Seconds of (gathering weights, adding up activations, computing) for two matrices of an FFN in a pod.

    Weights are gathered over 20 x 28 chips, whose two axes close, and split over the 16 of the third axis.  The book
    counts n blocks sent where n - 1 are.
    """
    conditions, chips, gather = perfect("tpu-v5p"), 8960.0, 560.0
    width, hidden, tokens = float(MODEL.width), float(MODEL.layers[0].ffn.width), float(BATCH)
    first, second = product(tokens, hidden, width), product(tokens, width, hidden)
    second = replace(second, split="rows", reduce_bytes=2.0 * tokens * width)
    sharded = shard([first, second], Layout(tp=chips, ffn="gathered", gather=gather))
    seconds = {"all-gather": 0.0, "all-reduce": 0.0}
    for exchange in sharded.exchanges:
        group = float(np.max(exchange.group))
        cost = link_cost(conditions.chip, conditions.calibration, exchange)
        seconds[exchange.kind] += float(cost.seconds) * group / (group - 1.0)
    compute_s = step_cost(conditions, sharded, chips).shares_s["compute"]
    return seconds["all-gather"], seconds["all-reduce"], float(compute_s)


def mixed_threshold() -> float:
    """Tokens a chip at which the least exchange takes as long as computing.

    Over X gathering chips it takes g X + r / X, at least 2 sqrt(g r); r and the computing grow with the tokens.
    """
    gather_s, reduce_s, compute_s = mixed()
    return BATCH / 8960.0 * 4.0 * gather_s * reduce_s / compute_s**2


def mixed_degree() -> float:
    """Over how many chips weights are gathered where the exchange takes least: X with g X = r / X."""
    gather_s, reduce_s, _ = mixed()
    return 560.0 * float(np.sqrt(reduce_s / gather_s))


# 8: serving Llama 3 70B


def cache_of(tokens: float) -> float:
    return float(np.asarray(cache_bytes(MODEL, 1.0, tokens, INT8)))


def step_ms() -> float:
    """Milliseconds of int8 weights and cache from the memories of 4 x 2 chips, 32 sequences of 8192 tokens."""
    widths = replace(INT8, activation=0.0)
    operations = decode(MODEL, 32.0, LENGTH, widths)
    step = step_cost(perfect("tpu-v5e", "int8"), shard(operations, Layout(tp=8.0)), 8.0)
    return 1e3 * float(step.shares_s["memory"])


def fewest_slice(value_bytes: float) -> float:
    widths = Widths(weight=value_bytes, kv=value_bytes)
    needed = float(memory_bytes(MODEL, 1.0, LENGTH, widths))
    conditions = make_conditions(chip_from_facts(FACTS, "tpu-v5e"))
    return float(2 ** np.ceil(np.log2(needed / usable_bytes(conditions, conditions.weights))))


def caches(precision: str, chips: float) -> float:
    """Caches of 8192 tokens beside the weights in chips of 16 GB, nothing kept free."""
    machine = chip_from_facts(FACTS.edited(["tpu-v5e.memory_bytes=1.6e10"]), "tpu-v5e")
    everything = Precisions(linear=precision, attention=precision, exact=precision, kv=precision)
    conditions = make_conditions(
        machine, everything, software=replace(NO_SOFTWARE, name="book", quantise_ratio=1.0, usable_ratio=1.0)
    )
    return float(most_sequences(MODEL, conditions, Layout(tp=chips, shard_batch=True), LENGTH))
