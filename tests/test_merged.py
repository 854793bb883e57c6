"""Equal operations of different blocks, and equal collectives, are priced once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions
from flashstill.cost.step import step_cost
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.parallel import Layout, shard
from flashstill.parallel.merged import once, with_merged_exchanges
from flashstill.workload import Matmul, decode

CONDITIONS = make_conditions(chip_from_facts(load(), "h100-sxm"))


@pytest.mark.parametrize("name", ["gpt-oss-20b", "deepseek-v2-lite", "qwen3-next-80b-a3b", "llama-3.1-8b"])
def test_the_same_work_costs_the_same(name: str) -> None:
    layout = Layout(tp=np.array([1.0, 4.0, 8.0]), ep=np.array([1.0, 4.0, 8.0]))
    work = decode(load_architecture(name), np.array([1.0, 16.0, 256.0]), 1024.0)
    whole, short = shard(work, layout), with_merged_exchanges(shard(once(work), layout))
    assert len(short.exchanges) < len(whole.exchanges), "all-reduces of a mixer and of its FFN send the same bytes"
    one, other = step_cost(CONDITIONS, whole, layout.chips), step_cost(CONDITIONS, short, layout.chips)
    np.testing.assert_allclose(one.seconds, other.seconds, rtol=1e-14)
    np.testing.assert_allclose(one.total_joules, other.total_joules, rtol=1e-14)


def test_what_two_kinds_of_blocks_share_is_one() -> None:
    """Attention of gpt-oss-20b sees all tokens in 12 blocks and 128 in 12, which are alike in all else."""
    counts: dict[str, list[float]] = {}
    for operation in once(decode(load_architecture("gpt-oss-20b"), 8.0, 1024.0)):
        counts.setdefault(operation.name, []).append(float(operation.count))
    assert counts.pop("attention") == [12, 12]
    assert counts.pop("embedding") == counts.pop("LM head") == [1]
    assert set(map(tuple, counts.values())) == {(24,)}


def test_operations_that_differ_in_one_number_stay_two() -> None:
    first = next(iter(decode(load_architecture("qwen3-8b"), np.array([8.0, 16.0]), 1024.0)))
    assert isinstance(first, Matmul)
    other = replace(first, rows=first.rows + np.array([0.0, 1.0]), count=3.0)
    found = once((first, other, first))
    assert [operation.count for operation in found] == [2.0 * first.count, 3.0]
    scaled = replace(first, count=np.array([1.0, 0.0]))
    (both,) = once((first, scaled))
    np.testing.assert_array_equal(both.count, first.count + np.array([1.0, 0.0]))


def test_operations_stay_in_the_order_in_which_they_came_first() -> None:
    """So that the sum over many rows, of which some have none of an operation, is that over one to the last bit."""
    first, second, third = list(decode(load_architecture("qwen3-8b"), 8.0, 1024.0))[:3]
    assert isinstance(first, Matmul)
    alike = replace(first, rows=1.0)
    found = once((first, second, alike, third, second))
    assert found == (first, replace(second, count=2 * second.count), alike, third)


def test_collectives_of_experts_stay_apart() -> None:
    """A search sums them after all others, as they alone differ between its layouts."""
    model = load_architecture("gpt-oss-20b")
    sharded = with_merged_exchanges(shard(once(decode(model, 8.0, 1024.0)), Layout(tp=4.0)))
    assert [(each.kind, each.count) for each in sharded.exchanges] == [("all-reduce", 24), ("all-reduce", 24)]
    assert sharded.exchanges[0].bytes == sharded.exchanges[1].bytes
