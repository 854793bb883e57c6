"""Anchor files of collectives and of quantisation: what is read from a row, and what it is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.parallel import Exchange
from flashstill.validation.anchors.kernels import kernel_sets
from flashstill.validation.anchors.tables import LAUNCHES, QUANTISATION, WHOLE, KernelSet
from flashstill.validation.calibration.selection import by_kind, chosen, on_the_chip
from flashstill.validation.kernel_times import kernel_seconds
from flashstill.workload import Matmul

FACTS = load()


def sets(directory: Path, name: str, *lines: str) -> list[KernelSet]:
    (directory / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list(kernel_sets(FACTS, directory))


def sizes(item: KernelSet) -> np.ndarray:
    assert isinstance(item.work, Exchange)
    return np.asarray(item.work.bytes)


def test_custom_all_reduce_is_of_the_engine_that_the_source_or_the_file_names(tmp_path: Path) -> None:
    """Message sizes are elements of two bytes; what Python launches each time is left out."""
    header = "version,kernel_source,num_gpus,message_size,latency"
    named = [header, "1,SGLang_CustomAllReduce_graph,8,1024,0.004", "1,SGLang_CustomAllReduce_eager,8,1024,0.03"]
    (one,) = sets(tmp_path, "kernels_h100_sxm_x_custom_allreduce", *named)
    assert isinstance(one.work, Exchange)
    assert (one.engine, one.kind, one.seconds.tolist(), np.asarray(one.work.bytes).tolist()) == (
        "sglang",
        "all-reduce",
        [4e-6],
        [2048.0],
    )
    (other,) = sets(
        tmp_path, "kernels_h100_sxm_x_custom_allreduce", "version,num_gpus,message_size,latency", "1,2,4,0.1"
    )
    assert other.engine == "trtllm"


def test_deepep_by_phase(tmp_path: Path) -> None:
    """One token of 1000 values to one expert: to one chip, 1 byte a value out, 2 back; many go by normal kernels."""
    low = "version,node_num,hidden_size,num_token,num_topk,num_experts,combine_avg_t_us,dispatch_avg_t_us"
    out, back = sets(
        tmp_path, "kernels_h100_sxm_deepep_low_latency", low, "1,1,1000,1,1,8,12,10", "1,1,1000,512,1,8,9,9"
    )
    assert [(float(np.sum(sizes(each))), each.seconds.tolist()) for each in (out, back)] == [
        (1000.0, [pytest.approx(1e-5)]),
        (2000.0, [pytest.approx(1.2e-5)]),
    ]
    (tmp_path / "kernels_h100_sxm_deepep_low_latency.csv").unlink()
    phases = "dispatch_sms,dispatch_transmit_us,combine_sms,combine_transmit_us"
    normal = f"version,hidden_size,num_token,num_topk,num_experts,{phases}"
    rows = ("1,1000,512,1,8,24,50,24,90", "1,1000,512,1,8,8,99,8,99", "1,1000,1,1,8,24,20,24,40")
    out, back = sets(tmp_path, "kernels_h100_sxm_sglang_deepep_normal", normal, *rows)
    assert [*out.seconds, *back.seconds] == pytest.approx([5e-5, 9e-5])


def test_an_exchange_launched_from_python_is_compared_but_not_fitted(tmp_path: Path) -> None:
    header = "version,comm_backend,phase,hidden_size,topk,num_experts,num_tokens,latency"
    rows = ("1,deepep_ll,dispatch,1000,1,8,1,60", "1,deepep_ll,combine,1000,1,8,1,50")
    found = sets(tmp_path, "kernels_h100_sxm_vllm_1_moe_a2a", header, *rows)
    assert [each.timed for each in found] == [LAUNCHES, LAUNCHES]
    chip = chip_from_facts(FACTS, "h100-sxm")
    assert chosen("all-to-all", [(chip, each) for each in found])[0] == []


def test_quantisation_alone_is_the_part_of_a_product(tmp_path: Path) -> None:
    (one,) = sets(tmp_path, "kernels_h100_sxm_vllm_scale_matrix", "version,m,k,latency", "1,64,4096,0.003")
    chip = chip_from_facts(FACTS, "h100-sxm")
    kernel = chip.calibration.kernel("matmul", "fp8", "vllm")
    seconds = kernel.quantise_floor_s + 64 / chip.compute_units * kernel.block_s
    seconds += kernel.passes * 3 * 64 * 4096 / chip.memory.bytes_per_s
    assert (one.timed, isinstance(one.work, Matmul)) == (QUANTISATION, True)
    assert kernel_seconds(chip, one).tolist() == [pytest.approx(seconds)]
    assert sets(tmp_path, "kernels_h100_sxm_vllm_scale_matrix", "version,m,k") == []


def test_rows_that_hide_the_hosts_launches_are_told_from_those_that_do_not(tmp_path: Path) -> None:
    """Launched from Python, no product takes less than 200 us; one of 500 us is as long as on the chip."""
    header = "version,gemm_dtype,m,n,k,latency"
    for engine, shortest in (("trtllm", "0.004"), ("sglang", "0.005"), ("vllm", "0.2")):
        name = f"kernels_h100_sxm_{engine}_gemm"
        found = sets(tmp_path, name, header, f"1,bfloat16,1,128,128,{shortest}", "1,bfloat16,8192,8192,4096,0.5")
    chip = chip_from_facts(FACTS, "h100-sxm")
    groups = by_kind((chip, each) for each in found)
    assert sorted(condition for _, condition in groups) == ["bf16", "bf16 sglang", "bf16 trtllm"]
    (host,) = [each for each in found if each.engine == "vllm"]
    hidden, seen = on_the_chip(host)
    assert isinstance(hidden.work, Matmul)
    assert (hidden.seconds.tolist(), np.asarray(hidden.work.rows).tolist()) == ([5e-4], [8192.0])
    assert (seen.seconds.tolist(), seen.timed) == ([2e-4], WHOLE)


def test_a_table_without_a_format_column_is_of_bf16(tmp_path: Path) -> None:
    (one,) = sets(tmp_path, "kernels_a100_sxm_vllm_gemm", "version,m,n,k,latency", "1,1,128,128,0.003")
    assert (one.precision, one.engine) == ("bf16", "vllm")
