"""The operations of small models (tests/small.py), each worked out by hand: FLOPs and bytes by kind of block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from flashstill.arch import CompressedAttention, FeedForward, Indexer, Layer
from flashstill.parallel import Exchange, Layout, shard
from flashstill.parallel.local import split_attention, split_experts
from flashstill.workload import Operation, Widths, cache_bytes, decode, prefill
from flashstill.workload.experts import EVEN, Experts, distinct_experts
from flashstill.workload.operations import Attention, Matmul
from flashstill.workload.seen import attended
from flashstill.workload.training import backward, forward, model_flops, streams, unfused
from tests.small import gated_model, latent_model, model_of, recurrent_model, routed_model, small_model

approx = pytest.approx
Row = tuple[float, float, float, float, float, float]
"""count, FLOPs, bytes of weights, cache and activations, bytes of the sums over shards"""


def table(operations: Iterable[Operation]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for each in operations:
        numbers = (each.count, each.flops, each.weight_bytes, each.kv_bytes, each.activation_bytes, each.reduce_bytes)
        count, flops, weights, cache, activations, sums = (float(number) for number in numbers)
        assert each.name not in found
        found[each.name] = (count, flops, weights, cache, activations, sums)
    return found


def same(found: dict[str, Row], expected: dict[str, Row]) -> None:
    assert list(found) == list(expected)
    for name, row in expected.items():
        assert found[name] == approx(row), name


def test_a_decode_step() -> None:
    """3 sequences after 10 tokens: 11 pairs each; a product of r rows moves 2 r (columns + depth) bytes."""
    same(
        table(decode(small_model(), 3.0, 10.0)),
        {
            "query, key, value": (2, 2 * 3 * 200 * 100, 2 * 200 * 100, 0, 2 * 3 * 300, 0),
            "attention": (2, 2 * 3 * 4 * 50 * 11, 0, 3 * 11 * 100 * 2, 3 * 200 * 2, 0),
            "attention output": (2, 2 * 3 * 100 * 100, 2 * 100 * 100, 0, 2 * 3 * 200, 600),
            "feed-forward in": (2, 2 * 3 * 200 * 100, 2 * 200 * 100, 0, 2 * 3 * 300, 0),
            "feed-forward out": (2, 2 * 3 * 100 * 200, 2 * 200 * 100, 0, 2 * 3 * 300, 600),
            "norms and residuals": (2, 0, 0, 0, 6 * 600, 0),
            "embedding": (1, 0, 0, 0, 2 * 600, 0),
            "LM head": (1, 2 * 3 * 1000 * 100, 2 * 1000 * 100, 0, 2 * 3 * 1100, 0),
        },
    )


def test_drafts_are_verified_together() -> None:
    """Two tokens of each of 3 sequences: 2 x 10 pairs with the cache and 1 + 2 among them; the cache is read once."""
    found = table(decode(small_model(), 3.0, 10.0, queries=2.0))
    assert found["attention"] == approx((2, 2 * 3 * 4 * 50 * 23, 0, 3 * 12 * 100 * 2, 6 * 200 * 2, 0))
    assert found["LM head"][1] == 2 * 6 * 1000 * 100


def test_a_prompt() -> None:
    """2 prompts of 10 tokens after 5: 55 pairs and 50 more; only the last position has logits."""
    found = table(prefill(small_model(), 2.0, 10.0, past=5.0))
    assert found["query, key, value"] == approx((2, 2 * 20 * 200 * 100, 2 * 200 * 100, 0, 2 * 20 * 300, 0))
    assert found["attention"] == approx((2, 2 * 2 * 4 * 50 * 105, 0, 2 * 15 * 100 * 2, 20 * 200 * 2, 0))
    assert found["LM head"] == approx((1, 2 * 2 * 1000 * 100, 2 * 1000 * 100, 0, 2 * 2 * 1100, 0))


def test_a_parallel_block_with_a_gate() -> None:
    """One sum after both branches, half the norms; two matrices go in.  60 weights a token beside, in 16 bits."""
    found = table(decode(gated_model(side_weights=6000), 3.0, 10.0, Widths(weight=1.0, exact=2.0)))
    assert found["attention output"][5] == 0
    assert found["feed-forward in"] == approx((2, 2 * 3 * 400 * 100, 400 * 100, 0, 2 * 3 * 500, 0))
    assert found["feed-forward out"] == approx((2, 2 * 3 * 100 * 200, 100 * 200, 0, 2 * 3 * 300, 600))
    assert found["side branches"] == approx((2, 2 * 3 * 60 * 100, 2 * 60 * 100, 0, 2 * 3 * 160, 0))
    assert found["norms and residuals"][4] == 3 * 600


def test_routed_experts() -> None:
    """3 tokens to 2 of 8: 6 pairs; met are 8 (1 - (6/8)^3) = 4.625.

    Each pair reads 100, writes and reads 100 of gate and up, then 50, then 100: 600 values; three sums of 100 leave.
    """
    found = table(decode(routed_model(), 3.0, 10.0))
    flops, weights = 2 * 3 * 100 * 50 * 6, 2 * 3 * 100 * 50 * 4.625
    assert found["experts"] == approx((2, flops, weights, 0, 2 * (6 * 600 + 300), 0))
    assert found["router"] == approx((2, 2 * 3 * 8 * 100, 2 * 8 * 100, 0, 2 * 3 * 108, 0))
    assert found["shared expert in"] == approx((2, 2 * 3 * 60 * 100, 2 * 60 * 100, 0, 2 * 3 * 160, 0))
    assert found["shared expert out"] == approx((2, 2 * 3 * 100 * 30, 2 * 30 * 100, 0, 2 * 3 * 130, 600))


def test_distinct_experts() -> None:
    assert distinct_experts(8, 2, 3.0) == approx(4.625)
    assert distinct_experts(8, 2, 0.5) == approx(2.0)  # a token at the least
    assert distinct_experts(8, 2, 3.0, EVEN) == 6.0
    assert distinct_experts(8, 2, 5.0, EVEN) == 8.0
    assert distinct_experts(8, 8, 1.0) == approx(8.0)
    # Popularity 1, 1/2 of two experts, one for each token: shares 2/3 and 1/3; after 2 tokens 1 - 1/9 and 1 - 4/9.
    assert distinct_experts(2, 1, 2.0, 1.0) == approx(8 / 9 + 5 / 9)


def test_latent_attention() -> None:
    """Decoding maps 4 queries of 20 into 30, and reads 35 values a token; a prompt expands keys and values instead."""
    found = table(decode(latent_model(), 3.0, 10.0))
    assert found["latent down"] == approx((2, 2 * 3 * 135 * 100, 2 * 135 * 100, 0, 2 * 3 * 235, 0))
    assert found["query into latent"] == approx((2, 2 * 3 * 120 * 20, 2 * 120 * 20, 0, 2 * 3 * 140, 0))
    assert found["attention"] == approx((2, 2 * 3 * 4 * 65 * 11, 0, 3 * 11 * 35 * 2, 4 * 65 * 2 * 3, 0))
    assert found["value out of latent"] == approx((2, 2 * 3 * 60 * 30, 2 * 60 * 30, 0, 2 * 3 * 90, 0))
    assert found["attention output"] == approx((2, 2 * 3 * 100 * 60, 2 * 60 * 100, 0, 2 * 3 * 160, 600))
    found = table(prefill(latent_model(), 2.0, 10.0))
    assert found["key, value up"] == approx((2, 2 * 20 * 140 * 30, 2 * 140 * 30, 0, 2 * 20 * 170, 0))
    assert found["attention"] == approx((2, 2 * 2 * 4 * 40 * 55, 0, 2 * 10 * 35 * 2, 4 * 40 * 2 * 20, 0))
    assert "query into latent" not in found


def test_compressed_queries_gates_and_an_indexer() -> None:
    """Queries from 12 values, 7 columns of gate; the indexer's 2 heads of 8 score all tokens, 6 of them are read."""
    indexer = Indexer(heads=2, head_width=8, top=6)
    found = table(decode(latent_model(query_rank=12, extra_width=7, indexer=indexer), 3.0, 10.0))
    assert found["latent down"][2] == 2 * (12 + 30 + 5) * 100
    assert found["output gate"][2] == 2 * 7 * 100
    assert found["query up"] == approx((2, 2 * 3 * 100 * 12, 2 * 100 * 12, 0, 2 * 3 * 112, 0))
    assert found["index query"] == approx((2, 2 * 3 * 16 * 12, 2 * 16 * 12, 0, 2 * 3 * 28, 0))
    assert found["index key"][2] == 2 * (8 + (2 if indexer.weighted else 0)) * 100
    # Keys and queries take 8 bits and a 32-bit scale per 128 values; 32-bit logits are written and read.
    scaled = 1 + 4 / 128
    moved = 3 * 2 * 8 * scaled + 8 * 3 * 11
    assert found["index scores"] == approx((2, 2 * 3 * 2 * 8 * 11, 0, 3 * 11 * 8 * scaled, moved, 0))
    assert found["attention"][1] == 2 * 3 * 4 * 65 * 7


def test_a_recurrence() -> None:
    """6 FLOPs a value of state and token; the state of each sequence is read and written once, in 16 bits."""
    found = table(decode(recurrent_model(), 3.0, 10.0))
    assert found["recurrent state"] == approx((2, 3 * 6 * 1000, 0, 2 * 3 * 1000 * 2, 2 * 100 * 2 * 3, 0))
    assert found["recurrent projections"] == approx((2, 2 * 3 * 300 * 100, 2 * 300 * 100, 0, 2 * 3 * 400, 600))
    assert cache_bytes(recurrent_model(), 3.0, 10.0) == 2 * 3 * 1000 * 2
    assert cache_bytes(small_model(window=6), 3.0, 10.0) == 2 * 3 * 6 * 100 * 2


def test_entries_of_several_tokens() -> None:
    """DeepSeek-V4's: 2 heads of 20 read 6 tokens one by one and 10/2 entries of 2 tokens each.

    Down: 12 of queries, 20 of the vector, 2 x 20 of entries and gates; out through 2 groups of 8 from 20 each.
    """
    plain = CompressedAttention(heads=2, head_width=20, query_rank=12, output_groups=2, output_rank=8, near=6, rate=2)
    layer = Layer(count=2, attention=plain, ffn=FeedForward(width=200, gated=False), norm_parameters=200)
    found = table(decode(model_of(layer), 3.0, 10.0))
    assert found["latent down"] == approx((2, 2 * 3 * 72 * 100, 2 * 72 * 100, 0, 2 * 3 * 172, 0))
    assert found["query up"] == approx((2, 2 * 3 * 40 * 12, 2 * 40 * 12, 0, 2 * 3 * 52, 0))
    # 6 tokens and the new one; 11/2 pairs with entries, of which (10 + 1) x 20/2 values are read and written
    assert found["attention"] == approx((2, 2 * 3 * 2 * 40 * 7, 0, 3 * 7 * 20 * 2, 2 * 40 * 2 * 3, 0))
    assert found["attention to entries"] == approx((2, 2 * 3 * 2 * 40 * 5.5, 0, 3 * 11 * 10 * 2, 2 * 40 * 2 * 3, 0))
    assert found["grouped output"] == approx((2, 2 * 3 * 16 * 20, 2 * 16 * 20, 0, 2 * 3 * 36, 0))
    assert found["attention output"] == approx((2, 2 * 3 * 100 * 16, 2 * 100 * 16, 0, 2 * 3 * 116, 600))
    assert cache_bytes(model_of(layer), 3.0, 10.0) == 2 * 3 * 2 * (10 * 10 + 6 * 20)
    # A scorer of 3 heads of 8 picks 2 entries, which overlap: entries and gates are twice as wide.
    chosen = replace(plain, indexer=Indexer(heads=3, head_width=8, top=2))
    found = table(decode(model_of(replace(layer, attention=chosen)), 3.0, 10.0))
    assert found["latent down"][2] == 2 * (12 + 20 + 4 * 20 + 4 * 8 + 3) * 100
    assert found["query up"][2] == 2 * (40 + 24) * 12
    assert found["index scores"] == approx((2, 2 * 3 * 3 * 8 * 5.5, 0, 3 * 11 * 4 * 2, 3 * 8 * 2 * 3, 0))
    assert found["attention to entries"][1] == approx(2 * 3 * 2 * 40 * 2.5)  # 4 tokens and the new one
    # Without entries the window is all that is seen.
    near = replace(layer, attention=replace(plain, rate=None))
    found = table(decode(model_of(near), 3.0, 10.0))
    assert "attention to entries" not in found
    assert found["latent down"][2] == 2 * 32 * 100
    assert cache_bytes(model_of(near), 3.0, 10.0) == 2 * 3 * 2 * 6 * 20
    prompt = table(prefill(model_of(layer), 1.0, 10.0))
    # 55 pairs, of which a window of 6 hides 4 + 3 + 2 + 1
    assert prompt["attention"][1] == 2 * 2 * 40 * 45
    assert prompt["attention to entries"][1] == approx(2 * 2 * 40 * 55 / 2)


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("limit", [None, 1, 4, 9, 30])
@pytest.mark.parametrize(("queries", "past"), [(1, 0), (3, 0), (3, 5), (10, 20)])
def test_pairs_are_counted(prompt: bool, limit: int | None, queries: int, past: int) -> None:
    """One by one: token i of a prompt sees past + i + 1, of which a limit hides the oldest."""
    seen, pairs = attended(float(queries), float(past), limit, prompt)
    most = limit or 10**9
    assert float(np.asarray(seen)) == min(past, most)
    if prompt:
        assert float(np.asarray(pairs)) == sum(min(past + token + 1, most) for token in range(queries))
    else:  # tokens that are decoded together see each other whatever the limit
        assert float(np.asarray(pairs)) == sum(min(past, most) + token + 1 for token in range(queries))


def test_widths_by_role() -> None:
    widths = Widths(weight=1.0, attention=0.5, experts=0.25, exact=2.0, kv=1.0)
    found = table(decode(routed_model(), 3.0, 10.0, widths))
    assert found["query, key, value"][2] == 0.5 * 200 * 100
    assert found["experts"][2] == approx(0.25 * 3 * 100 * 50 * 4.625)
    assert found["router"][2] == 2.0 * 8 * 100
    assert found["shared expert in"][2] == 1.0 * 60 * 100
    assert found["attention"][3] == 3 * 11 * 100
    assert [Widths(weight=3.0).of(role) for role in ("linear", "attention", "experts", "exact")] == [3.0] * 4
    assert (Widths().weight, Widths().kv, Widths().activation) == (2.0, 2.0, 2.0)


class TestShards:
    """What one of several chips does."""

    def mine(self, operations: Iterable[Operation], layout: Layout) -> tuple[dict[str, Row], dict[str, Exchange]]:
        sharded = shard(operations, layout)
        return table(sharded.operations), {f"{each.name}, {each.kind}": each for each in sharded.exchanges}

    def test_two_chips(self) -> None:
        """Columns, then rows; 2 of 4 heads; the stream is summed twice a layer, 600 bytes each time."""
        found, sums = self.mine(decode(small_model(), 3.0, 10.0), Layout(tp=2.0))
        assert found["query, key, value"] == approx((2, 6 * 100 * 100, 2 * 100 * 100, 0, 2 * 3 * 200, 0))
        assert found["attention"] == approx((2, 2 * 3 * 2 * 50 * 11, 0, 3 * 11 * 50 * 2, 3 * 200, 0))
        assert found["attention output"][1:5] == approx((6 * 100 * 50, 2 * 100 * 50, 0, 2 * 3 * 150))
        assert found["feed-forward out"][1:5] == approx((6 * 100 * 100, 2 * 100 * 100, 0, 2 * 3 * 200))
        assert found["norms and residuals"][4] == 3600
        assert found["LM head"][2] == 2 * 500 * 100
        assert set(sums) == {"attention output, all-reduce", "feed-forward out, all-reduce"}
        for each in sums.values():
            assert (float(each.count), float(each.bytes), float(each.group), each.tier) == (2.0, 600.0, 2.0, "tensor")

    def test_heads_that_are_fewer_than_chips(self) -> None:
        """4 chips hold 2 cached heads twice; by sequences each holds all heads of 3/3 sequences at the least."""
        operation = next(each for each in decode(small_model(), 3.0, 10.0) if isinstance(each, Attention))
        four = split_attention(operation, 4.0)
        assert (four.heads, four.kv_heads, four.kv_values, four.activation_bytes) == (1.0, 1.0, 50.0, 300.0)
        spread = split_attention(operation, 1.0, 4.0)
        assert (spread.sequences, spread.heads, spread.activation_bytes) == (1.0, 4.0, 400.0)
        sharded = shard([operation], Layout(tp=2.0, shard_batch=True))
        (mine,) = sharded.operations
        assert isinstance(mine, Attention)
        assert (float(mine.sequences), float(mine.heads), float(mine.kv_values)) == (1.5, 4.0, 100.0)
        (three,) = shard([replace(operation, count=3)], Layout(tp=2.0, shard_batch=True)).exchanges
        assert three.count == 6.0
        (there_and_back,) = sharded.exchanges
        assert (there_and_back.kind, there_and_back.count, float(there_and_back.bytes)) == ("all-to-all", 4.0, 300.0)

    def test_experts_over_replicas(self) -> None:
        """2 replicas of 2 chips in 4 groups: a chip holds 2 whole experts and meets the 6 tokens of both replicas.

        A token's 2 experts are on 4 (1 - (3/4)^2) = 1.75 groups on average: 600 bytes x 1.75 / 2 a chip, each way.
        """
        layout = Layout(tp=2.0, dp=2.0, ep=4.0)
        operation = next(each for each in decode(routed_model(), 3.0, 10.0) if isinstance(each, Experts))
        mine = split_experts(operation, layout)
        assert (mine.tokens, mine.local_experts, mine.ffn_width) == (6.0, 2.0, 50.0)
        # Three pairs read and write 3 x 100 values of the stream and twice 50 of each matrix; three sums of 100 leave.
        assert mine.activation_bytes == approx(2 * (3 * (300 + 2 * 50 * mine.matrices) + 3 * 100))
        assert float(np.asarray(mine.assignments)) == approx(6 * 2 * 2 / 8)
        halves = split_experts(operation, replace(layout, ep=2.0))
        assert (halves.local_experts, halves.ffn_width) == (4.0, 25.0)
        _, sums = self.mine(decode(routed_model(), 3.0, 10.0), layout)
        travel = sums["tokens to experts and back, all-to-all"]
        assert (travel.count, travel.tier, float(travel.group)) == (4.0, "expert", 4.0)
        assert float(travel.bytes) == approx(600 * 1.75 / 2)
        (layer,) = routed_model().layers
        _, sums = self.mine(decode(model_of(replace(layer, count=3)), 3.0, 10.0), layout)
        assert sums["tokens to experts and back, all-to-all"].count == 6.0


class TestTraining:
    def test_all_logits_and_six_flops(self) -> None:
        """2 sequences of 10 tokens: 20 rows of logits; 3 forward passes with 100 pairs instead of 55."""
        model = small_model()
        found = table(forward(model, 2.0, 10.0))
        assert found["LM head"] == approx((1, 2 * 20 * 1000 * 100, 2 * 1000 * 100, 0, 2 * 20 * 1100, 0))
        products = 2 * 20 * (2 * (200 + 100 + 200 + 200) * 100 + 1000 * 100)
        pairs = 2 * (2 * 2 * 4 * 50)  # of 2 layers, each pair of both sequences
        assert model_flops(model, 2.0, 10.0) == approx(3 * (products + 100 * pairs))
        assert model_flops(model, 2.0, 10.0, causal=True) == approx(3 * (products + 55 * pairs))

    def test_what_training_adds(self) -> None:
        """The nonlinearity reads 200 and writes 200 of 20 tokens, the loss 12 bytes of 20,000 logits."""
        found = table(streams(forward(small_model(), 2.0, 10.0), 0.5))
        assert found["nonlinearity"] == approx((2, 0, 0, 0, 2 * 20 * 400, 0))
        assert found["loss"] == approx((1, 0, 0, 0, 12 * 20 * 1000, 0))
        assert found["norms and residuals"][4] == 0.5 * 6 * 2 * 20 * 100
        assert found["embedding"][4] == 2 * 2 * 20 * 100  # every chip has all of it
        found = table(streams(forward(gated_model(), 2.0, 10.0)))
        assert found["nonlinearity"][4] == 2 * 20 * (400 + 200)

    def test_scores_that_are_written(self) -> None:
        """2 x 4 heads x 10 tokens: 80 rows of 10 scores; 9 bytes each for softmax and dropout."""
        operation = next(each for each in forward(small_model(), 2.0, 10.0) if isinstance(each, Attention))
        found = table(unfused(operation))
        assert found == {
            "attention scores": approx((2, 2 * 80 * 10 * 25, 2 * 10 * 25, 0, 2 * 80 * 35, 0)),
            "attention softmax": approx((2, 0, 0, 0, 9 * 800, 0)),
            "attention values": approx((2, 2 * 80 * 25 * 10, 2 * 10 * 25, 0, 2 * 80 * 35, 0)),
        }
        assert [each.name for each in streams([operation], fused=False)] == list(found)

    def test_gradients(self) -> None:
        """Of 20 rows x 200 x 100: of the inputs 20 x 100 x 200, of the weights 100 x 200 x 20."""
        product = next(each for each in forward(small_model(), 2.0, 10.0) if isinstance(each, Matmul))
        inputs, weights = backward(product)
        assert isinstance(inputs, Matmul)
        assert isinstance(weights, Matmul)
        assert (inputs.rows, inputs.columns, inputs.depth) == (20.0, 100, 200)
        assert (weights.rows, weights.columns, weights.depth) == (100, 200, 20.0)
        assert float(weights.weight_bytes) == approx(2 * 20 * 200)  # the output's gradient
        assert float(weights.activation_bytes) == approx(2 * 20 * 100 + 2 * 200 * 100)  # inputs, and the result
        assert [each.count for each in backward(product, frozen=True)] == [2]
        attention = next(each for each in forward(small_model(), 2.0, 10.0) if isinstance(each, Attention))
        experts = next(each for each in forward(routed_model(), 2.0, 10.0) if isinstance(each, Experts))
        moved = Operation(name="norms", count=2)
        for operation, ratio, alone in ((attention, 2.5, 2.5), (experts, 2.0, 1.0), (moved, 1.5, 1.5)):
            (gradient,), (frozen,) = backward(operation), backward(operation, frozen=True)
            assert (gradient.count, frozen.count) == (2 * ratio, 2 * alone)
