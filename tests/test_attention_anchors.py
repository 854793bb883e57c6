"""Attention tables: columns of each engine's files, windows, and kernels that an engine takes for some heads only."""

from __future__ import annotations

import pytest

from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.validation.anchors.attention import attention
from flashstill.validation.anchors.tables import KernelSet
from flashstill.workload import Attention

DECODE = {"batch_size": "4", "num_heads": "64", "num_key_value_heads": "8", "step": "1023", "latency": "0.05"}
PROMPT = {"batch_size": "4", "num_heads": "64", "num_key_value_heads": "8", "isl": "1000", "latency": "0.05"}


def read(anchor: str, row: dict[str, str], chip: str = "h100-sxm", **changes: str) -> KernelSet:
    """The one set of a table of one row."""
    (found,) = attention(anchor, chip_from_facts(load(), chip), [{**row, **changes}])
    return found


def work(found: KernelSet) -> Attention:
    assert isinstance(found.work, Attention)
    return found.work


def test_a_table_without_formats_widths_and_windows() -> None:
    found = read("kernels_a100_sxm_vllm_generation_attention", DECODE, "a100-80g")
    assert (found.kind, found.precision, found.engine) == ("decode-attention", "bf16", "vllm")
    shape = work(found)
    assert (shape.seen, shape.key_width) == (1023.0, 128.0)
    assert shape.kv_bytes == 4 * 1024 * 8 * 256 * 2


def test_a_window_bounds_what_is_read_and_computed() -> None:
    row = {**DECODE, "window_size": "128", "kv_cache_dtype": "fp8", "head_dim": "64"}
    shape = work(read("kernels_h100_sxm_vllm_generation_attention", row))
    assert (shape.seen, shape.pairs, shape.kv_bytes) == (128.0, 129.0, 4 * 129 * 8 * 128)
    prompt = work(read("kernels_h100_sxm_vllm_context_attention", PROMPT, window_size="10"))
    assert prompt.pairs == 55 + 990 * 10  # the first ten queries see 1 to 10 tokens, the others 10


def test_prompts_with_a_cache_of_another_format_are_left_out() -> None:
    mixed = {**PROMPT, "attn_dtype": "bfloat16", "kv_cache_dtype": "fp8"}
    assert not list(
        attention("kernels_h100_sxm_sglang_context_attention", chip_from_facts(load(), "h100-sxm"), [mixed])
    )


@pytest.mark.parametrize(
    ("engine", "changes", "kernels"),
    [
        ("sglang", {"kernel_source": "fa3"}, "sglang"),
        ("sglang", {"kernel_source": "fa3", "head_dim": "192"}, "fa3-192"),
        ("sglang", {"kernel_source": "triton", "head_dim": "256"}, "triton"),
        ("vllm", {"kernel_source": "vllm_flash_attn_fa4"}, "fa4"),
        ("trtllm", {"num_key_value_heads": "2"}, "trtllm"),
        ("trtllm", {"num_key_value_heads": "1"}, "mmha"),
        ("vllm", {"num_key_value_heads": "1"}, "vllm"),
    ],
)
def test_whose_kernels(engine: str, changes: dict[str, str], kernels: str) -> None:
    assert read(f"kernels_x_{engine}_generation_attention", DECODE, **changes).engine == kernels
