"""A step that mixes sequences that decode with chunks of prompts: its limits, its bounds, and what it reads once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.arch import load_architecture
from flashstill.cost import BOUNDS, LEVELS, Conditions, StepCost, make_conditions, mixed_step, uniform
from flashstill.cost.phases import decode_step, prefill_step
from flashstill.cost.stacks import essential
from flashstill.cost.together import steps_together
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.hardware.software import software_on
from flashstill.hardware.stacked import along, stack
from flashstill.parallel import Layout
from flashstill.simulate.tables import extra_cost
from flashstill.workload import Attention, Chunks, Decoding, Experts, Operation, decode, mixed, prefill, weight_bytes
from tests.marks import examples, slow

FACTS = load()
MODELS = (
    "llama-3.1-8b",  # grouped attention
    "deepseek-v3.2",  # latent attention with an indexer, experts
    "gpt-oss-120b",  # windows, experts
    "minimax-text-01",  # linear attention
    "deepseek-v4-flash",  # compressed attention
    "jamba-v0.1",  # state-space layers
)
CHIPS = ("h100-sxm", "b200", "tpu-v5e", "mi300x")
CONTEXT, LENGTH = 1000.0, 512.0


def conditions(chip: str = "h100-sxm", engine: str = "vllm", sampled: bool = False) -> Conditions:
    made = chip_from_facts(FACTS, chip)
    return make_conditions(
        made, uniform("bf16"), software=software_on(FACTS, engine, made.maker_class), sampled=sampled, skew=0.3
    )


def cost(model: str, decoding: Decoding, chunks: Chunks, layout: Layout | None = None, **more: Any) -> StepCost:
    return mixed_step(load_architecture(model), conditions(**more), layout or Layout(), decoding, chunks)


def some(sequences: Any, context: Any = CONTEXT, queries: float = 1.0) -> Decoding:
    return Decoding(sequences=sequences, context=context, queries=queries)


def pieces(count: Any, length: Any = LENGTH, past: Any = 0.0) -> Chunks:
    return Chunks(count=count, length=length, past=past)


def figures(step: StepCost) -> list[Any]:
    values = [step.seconds, step.macs, step.chips, *step.joules.values(), *step.shares_s.values()]
    return [np.asarray(value).tolist() for value in values]


LAYOUTS = {
    "tp4 dp2 ep8": Layout(tp=4.0, dp=2.0, ep=8.0), "one": Layout(), "tp8": Layout(tp=8.0),
    "tp2 pp2": Layout(tp=2.0, pp=2.0),
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("split", ["tp4 dp2 ep8", *slow("one", "tp8", "tp2 pp2")])
def test_of_one_kind_alone_it_is_that_step_to_the_last_digit(model: str, split: str) -> None:
    whole, under, layout = load_architecture(model), conditions(sampled=True), LAYOUTS[split]
    batch, chunks = 32.0, 2.0
    assert figures(mixed_step(whole, under, layout, some(batch), pieces(0.0))) == figures(
        decode_step(whole, under, layout, batch, CONTEXT)
    )
    assert figures(mixed_step(whole, under, layout, some(0.0), pieces(chunks))) == figures(
        prefill_step(whole, under, layout, chunks, LENGTH)
    )


@pytest.mark.parametrize("model", MODELS)
def test_arrays_hold_steps_of_all_kinds(model: str) -> None:
    counts, chunks, lengths = np.array([8.0, 0.0, 8.0]), np.array([0.0, 2.0, 2.0]), np.array([0.0, LENGTH, LENGTH])
    together = cost(model, some(counts), pieces(chunks, lengths, 64.0))
    for index in range(3):
        one = cost(model, some(counts[index]), pieces(chunks[index], lengths[index], 64.0))
        # Vector units round the powers of several steps at once otherwise than those of one, in the last digit.
        assert together.seconds[index] == pytest.approx(one.seconds, rel=1e-14)  # type: ignore[index]
        for level in LEVELS:
            found = float(np.broadcast_to(together.joules[level], 3)[index])
            assert found == pytest.approx(float(np.asarray(one.joules[level])), rel=1e-14)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("overlap", [0.1, *slow(None)])
def test_steps_priced_together_are_those_priced_one_by_one(model: str, overlap: float | None) -> None:
    whole, under = load_architecture(model), replace(conditions(sampled=True), overlap_units_ratio=overlap)
    layout = Layout(tp=np.array([1.0, 4.0, 4.0]), pp=np.array([1.0, 1.0, 2.0]), dp=np.array([1.0, 2.0, 4.0]))
    batch, prompts = np.array([1.0, 8.0, 1.0]), np.array([1.0, 2.0, 0.5])
    steps = [(some(batch), pieces(0.0)), (some(batch), pieces(prompts)), (some(0.0), pieces(prompts, past=64.0))]
    decoded, both, prefilled = steps_together(whole, under, layout, steps)
    assert figures(decoded) == figures(decode_step(whole, under, layout, batch, CONTEXT))
    assert figures(both) == figures(mixed_step(whole, under, layout, *steps[1]))
    assert figures(prefilled) == figures(prefill_step(whole, under, layout, prompts, LENGTH, past=64.0))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("engine", ["vllm", *slow("none")])
def test_prompts_cost_the_simulation_what_they_cost_the_closed_form(model: str, engine: str) -> None:
    """Beside decoding and alone: the tables of the event loop hold the differences of the steps that `serve` prices."""
    whole, under, layout = load_architecture(model), conditions(engine=engine), LAYOUTS["tp4 dp2 ep8"]
    batch, count = 32.0, 2.0
    decoding, prompts = some(batch), pieces(count)
    steps = [(decoding, pieces(0.0)), (decoding, prompts), (some(0.0), prompts)]
    decoded, both, prefilled = steps_together(whole, under, layout, steps)
    tokens, attended, ratio = 2.0 * count * LENGTH, LENGTH / 2.0, under.software.first_ratio  # of both replicas
    beside_s, beside_j = extra_cost(whole, under, layout, 2.0 * batch, tokens, attended, CONTEXT, tokens)
    alone_s, _ = extra_cost(whole, under, layout, 0.0, tokens, attended, CONTEXT, tokens)
    assert float(beside_s) == pytest.approx(ratio * (both.seconds - decoded.seconds), rel=1e-9)
    assert float(alone_s) == pytest.approx(ratio * prefilled.seconds, rel=1e-9)
    waiting_j = (ratio - 1.0) * (both.seconds - decoded.seconds) * under.chip.waiting_w * layout.chips
    assert float(beside_j) == pytest.approx(both.total_joules - decoded.total_joules + waiting_j, rel=1e-9)


def test_stages_prefill_side_by_side_in_the_simulation_and_each_prompt_is_worked_on_once() -> None:
    """Four prompts in four stages take the time of one and four times its work; eight take that of two together."""
    whole, under, layout = load_architecture("llama-3.1-8b"), conditions(engine="none"), Layout(pp=4.0)
    one, two = (prefill_step(whole, under, layout, count, LENGTH) for count in (1.0, 2.0))
    counts = np.array([1.0, 4.0, 8.0])
    seconds, joules = extra_cost(whole, under, layout, 0.0, counts * LENGTH, LENGTH / 2.0, CONTEXT, 8.0 * LENGTH)
    assert seconds == pytest.approx([one.seconds, one.seconds, two.seconds], rel=1e-9)
    assert joules == pytest.approx(
        [one.timed_joules + one.work_joules / 4.0, one.total_joules, two.total_joules], rel=1e-9
    )


def test_steps_priced_together_keep_the_axis_of_a_stack_of_chips() -> None:
    whole, under = (
        load_architecture("gpt-oss-120b"),
        stack([essential(conditions()), essential(conditions("h200-sxm"))]),
    )
    layout, batch = Layout(tp=along([2.0, 4.0])), along([8.0, 64.0])
    both = steps_together(whole, under, layout, [(some(batch), pieces(2.0)), (some(0.0), pieces(2.0))])
    assert [np.shape(step.seconds) for step in both] == [(2, 1, 1, 1, 1)] * 2
    alone = cost("gpt-oss-120b", some(64.0), pieces(2.0), Layout(tp=4.0), chip="h200-sxm")
    assert both[0].seconds[1, 0, 0, 0, 0] == alone.seconds  # type: ignore[index]


@pytest.mark.slow
@examples(25)
@given(
    model=st.sampled_from(MODELS),
    chip=st.sampled_from(CHIPS),
    engine=st.sampled_from(("vllm", "none")),
    layout=st.sampled_from(list(LAYOUTS.values())),
    sequences=st.integers(1, 512),
    queries=st.sampled_from((1.0, 4.0)),
    context=st.integers(1, 100_000),
    chunks=st.integers(1, 8),
    length=st.integers(1, 8192),
    past=st.integers(0, 100_000),
)
def test_it_takes_no_longer_than_both_apart_and_no_less_than_either(
    model: str,
    chip: str,
    engine: str,
    layout: Layout,
    sequences: int,
    queries: float,
    context: int,
    chunks: int,
    length: int,
    past: int,
) -> None:
    decoding = some(float(sequences), float(context), queries)
    prompts = pieces(float(chunks), float(length), float(past))
    more = {"chip": chip, "engine": engine}
    both = cost(model, decoding, prompts, layout, **more)
    first = cost(model, decoding, pieces(0.0), layout, **more)
    second = cost(model, some(0.0), prompts, layout, **more)
    near = 1.0 + 1e-12
    assert both.seconds <= (first.seconds + second.seconds) * near
    assert both.seconds * near >= np.maximum(first.seconds, second.seconds)
    assert both.joules["kv"] == pytest.approx(first.joules["kv"] + second.joules["kv"], rel=1e-9)
    apart = first.joules["arithmetic"] + second.joules["arithmetic"]
    if any(np.any(step.shares_s["power"] > 0.0) for step in (both, first, second)):  # some at a lower voltage
        lowest = chip_from_facts(FACTS, chip).least_voltage_ratio ** 2
        assert lowest * apart / near <= both.joules["arithmetic"] <= apart / lowest * near
    else:
        assert both.joules["arithmetic"] == pytest.approx(apart, rel=1e-9)
    least = max(float(first.joules["weights"]), float(second.joules["weights"]))
    assert least <= float(both.joules["weights"]) * near
    assert both.joules["weights"] <= (first.joules["weights"] + second.joules["weights"]) * near
    assert sum(both.shares_s[bound] for bound in BOUNDS) == pytest.approx(float(both.seconds))


def test_weights_are_read_once() -> None:
    """A dense model: the bytes of all weights but the embedding table, whatever is mixed."""
    model = load_architecture("llama-3.1-8b")
    operations = mixed(model, some(64.0), pieces(4.0))
    read = sum(operation.count * operation.weight_bytes for operation in operations)
    table = 2.0 * model.width * model.vocabulary
    assert read == pytest.approx(float(weight_bytes(model)) - table, rel=1e-4)  # norms are not products
    both = cost("llama-3.1-8b", some(64.0), pieces(4.0))
    assert both.joules["weights"] == cost("llama-3.1-8b", some(64.0), pieces(0.0)).joules["weights"]


def test_experts_meet_all_tokens_together() -> None:
    model = load_architecture("gpt-oss-120b")
    (routed,) = {
        (float(np.asarray(operation.tokens)), float(np.asarray(operation.distinct)))
        for operation in mixed(model, some(16.0), pieces(1.0, 48.0))
        if isinstance(operation, Experts)
    }
    assert routed[0] == 64.0
    assert routed[1] == pytest.approx(128 * (1 - (1 - 4 / 128) ** 64))


def test_attention_of_each_has_its_own_context() -> None:
    model = load_architecture("llama-3.1-8b")
    kernels = [each for each in mixed(model, some(3.0, 700.0), pieces(2.0, 100.0, 50.0)) if isinstance(each, Attention)]
    assert [(each.prompt, each.sequences, each.seen, each.pairs) for each in kernels] == [
        (False, 3.0, 700.0, 701.0),
        (True, 2.0, 50.0, 100.0 * 101.0 / 2.0 + 100.0 * 50.0),
    ]


@pytest.mark.parametrize("model", MODELS)
def test_its_work_is_that_of_the_two(model: str) -> None:
    """FLOPs and cache bytes add up; only weights do not."""

    def total(operations: tuple[Operation, ...], name: str) -> float:
        return float(sum(operation.count * getattr(operation, name) for operation in operations))

    whole = load_architecture(model)
    apart = [decode(whole, 5.0, 900.0), prefill(whole, 2.0, 300.0, past=100.0)]
    both = mixed(whole, some(5.0, 900.0), pieces(2.0, 300.0, 100.0))
    for name in ("flops", "kv_bytes", "activation_bytes", "reduce_bytes"):
        assert total(both, name) == pytest.approx(sum(total(operations, name) for operations in apart), rel=1e-12)
    assert total(both, "weight_bytes") < sum(total(operations, "weight_bytes") for operations in apart)


def test_a_worked_example() -> None:
    """Llama 3.1 8B on a perfect H100, 64 sequences of 1,024 tokens and a prompt of 2,048: arithmetic bounds it.

    2,112 tokens through 6.98e9 weights of projections, 65 through the head of 0.525e9, causal pairs of 32 heads of 128
    in 32 layers, each as 2 FLOPs at 989.5e12 a second; tiles and attention of the 64 sequences add some percent.
    """
    model, under = load_architecture("llama-3.1-8b"), conditions().perfect
    step = mixed_step(model, under, Layout(), some(64.0, 1024.0), pieces(1.0, 2048.0))
    products = 2.0 * (2112 * 6.98e9 + 65 * 0.525e9)
    pairs = 2.0 * 32 * 32 * 2 * 128 * (2048 * 2049 / 2 + 64 * 1025)
    least_s = (products + pairs) / 989.5e12
    worked_s = float(step.seconds - step.shares_s["power"])
    assert least_s < worked_s < 1.15 * least_s
    assert 2.0 * float(step.macs) == pytest.approx(products + pairs, rel=1e-3)


def test_more_tokens_never_take_less_time() -> None:
    lengths = np.array([1.0, 16.0, 64.0, 256.0, 1024.0, 4096.0])
    seconds = np.asarray(cost("llama-3.1-8b", some(32.0), pieces(1.0, lengths)).seconds)
    assert all(before <= after for before, after in pairwise(seconds))
