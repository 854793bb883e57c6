"""Readers of public tables to which nothing is fitted, and the rows that chips of other makers have of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.links import link_cost
from flashstill.facts import Facts, load
from flashstill.hardware import chip_from_facts, software_of
from flashstill.hardware.calibration_rows import calibration_of
from flashstill.hardware.needs import Needs
from flashstill.hardware.software import LOCAL, software_on
from flashstill.parallel import Exchange, Layout
from flashstill.plan.predict import Case, predict
from flashstill.validation.anchors.public import compare_public
from flashstill.validation.anchors.sram import compare_sram
from flashstill.validation.anchors.sweeps import batch_latency, compare_sweeps
from flashstill.validation.anchors.throughput import compare_throughput
from flashstill.validation.single_operations import compare_operations

FACTS = load()
PUBLIC = (
    "id,question,source,model,chip,chips,tp,pp,ep,dp,isl,osl,concurrency,engine,precision,kv_precision,draft,"
    "draft_tokens,acceptance,measured_tpot_ms,measured_ttft_ms,measured_output_tokens_per_s,"
    "measured_joules_per_output_token,measured_watts_per_chip\n"
    "a,,,llama-3.1-8b,h100-sxm,,1,,,,512,512,4,vllm,,,,,,7.5,60,,0.5,\n"
    "b,,,llama-3.1-8b,h100-sxm,,1,,,,512,512,4,vllm,,,,,,,,500,,\n"
    "c,,,no-such-model,h100-sxm,,1,,,,512,512,4,vllm,,,,,,7.5,,,,\n"
)


def test_a_public_row_is_compared_by_its_time_per_token_else_by_its_rate(tmp_path: Path) -> None:
    (tmp_path / "serving_public.csv").write_text(PUBLIC, encoding="utf-8")
    answer = predict(FACTS, [Case.of(model="llama-3.1-8b", chip="h100-sxm", tp=1, isl=512, osl=512, concurrency=4)])[0]
    found = {comparison.quantity: comparison for comparison in compare_public(FACTS, tmp_path)}
    assert list(found) == ["tpot_s", "ttft_s", "joules_per_output_token", "output_tokens_per_s"]
    assert found["tpot_s"].predicted.tolist() == [answer.tpot_s]
    assert found["tpot_s"].measured.tolist() == [pytest.approx(0.0075)]
    assert found["tpot_s"].unanswered == 1
    rates = found["output_tokens_per_s"]
    assert rates.predicted.tolist() == [answer.output_tokens_per_s]
    assert rates.low is not None
    assert rates.high is not None
    assert rates.low[0] < rates.predicted[0] < rates.high[0]


MLPERF = (
    "round,division,submitter,system,model,scenario,accelerator,accelerators_total,interconnect,framework,"
    "tokens_per_second,samples_per_second,tok_s_per_acc,mean_tpot_s,mean_latency_s\n"
    "4.1,closed,A,s,llama2-70b-99,Server,NVIDIA H200-SXM-141GB,8,NVLink,TensorRT 10,8000,80,1000,0.1,10\n"
    "4.1,closed,A,s,llama2-70b-99.9,Server,NVIDIA H200-SXM-141GB,8,NVLink,TensorRT 10,8000,80,1000,0.1,10\n"
    "4.1,open,A,s,llama2-70b-99,Server,NVIDIA H200-SXM-141GB,8,NVLink,TensorRT 10,9000,90,1125,0.1,10\n"
    "4.1,closed,A,s,llama2-70b-99,Server,NVIDIA Unheard-Of,8,NVLink,TensorRT 10,8000,81,1000,0.1,10\n"
)
OTHERWISE = (
    MLPERF.split("\n")[0] + "\n"
    "4.1,closed,A,8_MaxQ,llama2-70b-99,Server,NVIDIA H200-SXM-141GB,8,NVLink,TensorRT 10,8000,80,1000,0.1,10\n"
    "4.1,closed,A,H200-CTSx8,llama2-70b-99,Server,NVIDIA H200-SXM-141GB-CTS,8,NVLink,TensorRT 10,8001,80,1000,0.1,10\n"
    "4.1,closed,A,s,llama2-70b-99,Server,NVIDIA H100-NVL-94GB,8,N/A,TensorRT 10,8002,40,1000,0.1,10\n"
    "4.1,closed,A,s,llama2-70b-99,Server,NVIDIA H100-NVL-94GB,8,bridges,TensorRT 10,8003,40,1000,0.1,10\n"
    "4.1,closed,A,s,llama2-70b-99,Server,NVIDIA H100-SXM-80GB,4,6x 4th Gen NVLink,TensorRT 10,8004,40,1000,0.1,10\n"
    "4.1,closed,A,s,llama2-70b-99,Server,NVIDIA H100-SXM-80GB,4,NVSwitch,TensorRT 10,8005,40,1000,0.1,10\n"
    "4.1,closed,A,s,mixtral-8x7b,Offline,NVIDIA H100-SXM-80GB,8,NVSwitch,TensorRT 10,8006,40,1000,,\n"
)


def test_both_accuracy_targets_of_a_run_count_once_and_littles_law_gives_its_batch(tmp_path: Path) -> None:
    (tmp_path / "mlperf_inference.csv").write_text(MLPERF, encoding="utf-8")
    rate, tpot = compare_throughput(FACTS, tmp_path)
    case = Case.of(
        model="llama-2-70b", chip="h200-sxm", tp=1, precision="fp8", isl=294, osl=294, concurrency=100, engine="trtllm"
    )
    answer = predict(FACTS, [case])[0]
    assert tpot.predicted.tolist() == [answer.tpot_s]
    assert rate.predicted.tolist() == [answer.output_tokens_per_s]
    assert rate.unanswered == 2


def test_boards_run_at_the_limits_and_over_the_links_that_their_systems_state(tmp_path: Path) -> None:
    (tmp_path / "mlperf_inference.csv").write_text(OTHERWISE, encoding="utf-8")
    rate, _ = compare_throughput(FACTS, tmp_path)
    saving, cooled, alone, bridged, four, eight, mixtral = rate.predicted
    assert saving < cooled  # 500 and 1,000 W
    assert alone < 0.8 * bridged  # two H100 NVL over PCIe and over NVLink
    assert four < 0.95 * eight  # a pair of four H100 without a switch
    case = Case.of(
        model="mixtral-8x7b", chip="h100-sxm", tp=1, precision="fp8", isl=500, osl=146, concurrency=896, engine="trtllm"
    )
    assert mixtral == predict(FACTS, [case])[0].output_tokens_per_s  # one chip, as many as its configuration allows


def test_a_batch_beyond_memory_takes_turns() -> None:
    model = load_architecture("llama-2-7b")
    conditions = make_conditions(chip_from_facts(FACTS, "a100-40g"), uniform("bf16"))
    length = np.array([2048.0])
    few, many = (
        batch_latency(model, conditions, Layout(tp=1.0), np.array([batch]), length, length) for batch in (4.0, 64.0)
    )
    alone = batch_latency(model, conditions, Layout(tp=1.0), np.array([1.0]), length, length)
    assert few[0] < 1.3 * alone[0]
    assert many[0] > 10.0 * few[0] * 0.5
    falcon = load_architecture("falcon-180b")
    assert np.isinf(batch_latency(falcon, conditions, Layout(tp=1.0), np.array([1.0]), length, length))


def test_a_sweep_that_beats_the_perfect_machine_is_listed_apart(tmp_path: Path) -> None:
    head = "hardware,num,framework,model,isl,osl,batch,latency_s,total_tok_s_in_plus_out\n"
    rows = "".join(
        f"Nvidia H100 GPU,1,TensorRT-LLM,meta-llama/Llama-2-7b-hf,512,512,{batch},{latency},1\n"
        for batch, latency in ((1, 3.5), (16, 4.8), (32, 0.5))
    )
    (tmp_path / "batch_length_sweeps.csv").write_text(head + rows, encoding="utf-8")
    sound, beaten = compare_sweeps(FACTS, tmp_path)
    assert len(sound.measured) == 2
    assert beaten.measured.tolist() == [0.5]
    assert "beat" in beaten.quantity


def _with_ratio(quantity: str, value: float, condition: str = "") -> Facts:
    row = FACTS.rows["gpu-amd", "compute_ratio"][0]
    made = type(row)(
        **{name: getattr(row, name) for name in row.__dataclass_fields__}
        | {"quantity": quantity, "value": value, "low": value, "high": value, "condition": condition}
    )
    return FACTS.with_rows([made])


def test_ratios_of_a_maker_scale_what_its_chips_take_from_the_class() -> None:
    plain = chip_from_facts(_with_ratio("floor_ratio", 1.0), "mi300x").calibration.kernel("matmul", "bf16")
    slower = chip_from_facts(_with_ratio("floor_ratio", 3.0), "mi300x").calibration.kernel("matmul", "bf16")
    assert slower.floor_s == pytest.approx(3.0 * plain.floor_s)
    assert slower.memory_efficiency == plain.memory_efficiency
    most = chip_from_facts(_with_ratio("memory_ratio", 50.0), "mi300x").calibration.kernel("matmul", "bf16")
    assert most.memory_efficiency == 1.0
    other = chip_from_facts(_with_ratio("floor_ratio", 3.0), "l40s").calibration
    assert other == chip_from_facts(FACTS, "l40s").calibration
    owners = ("mi300x", "gpu-amd", "gpu")
    needs = Needs(FACTS, "mi300x", "gpu", between=("gpu-amd",))
    assert calibration_of(FACTS, owners, needs) == chip_from_facts(FACTS, "mi300x").calibration


def test_fully_connected_chips_use_the_links_between_them_only() -> None:
    chip = chip_from_facts(FACTS, "mi300x")

    def seconds(group: float) -> float:
        exchange = Exchange(name="x", kind="all-gather", count=1.0, bytes=1e11, group=group, tier="tensor")
        return float(np.asarray(link_cost(chip, chip.calibration, exchange).seconds))

    # Each chip sends V (n-1)/n over n-1 of its 7 links: the same time for any n but for the share that stays.
    assert seconds(2.0) / seconds(8.0) == pytest.approx((1.0 / 2.0) / (1.0 / 8.0), rel=0.05)


def test_what_the_runtime_adds_stands_without_an_engine_as_well_and_is_not_counted_elsewhere() -> None:
    alone, engine = software_on(FACTS, "none", "tpu-google"), software_on(FACTS, "vllm", "tpu-google")
    assert 0.0 < alone.layer_s == engine.layer_s
    assert alone.interference_ratio == engine.interference_ratio > 1.0
    assert software_on(FACTS, "none", "npu-intel").layer_s == 0.0 < software_on(FACTS, "vllm", "npu-intel").layer_s
    assert software_on(FACTS, "vllm", "gpu-nvidia") == software_of(FACTS, "vllm")


def test_a_core_without_compute_units_attends_to_one_sequence_after_another() -> None:
    ask = Case.of(model="qwen3-8b", chip="tpu-v6e", tp=4, isl=64, osl=64, concurrency=256, engine="none")
    facts = FACTS.edited(["tpu-v6e.decode-attention.block_s[bf16]=9e-6"])
    usual, longer = (predict(each, [ask])[0].decode_step_s or 0.0 for each in (FACTS, facts))
    blocks = 256 * 2 * 36  # sequences, key/value heads of a chip, blocks of the model
    assert longer - usual == pytest.approx(blocks * 8.1e-6, rel=0.05)


def test_rates_of_sram_machines_are_compared_and_their_facts_are_those_of_the_data_sheets(tmp_path: Path) -> None:
    rows = (
        "machine,field,value,unit,status,trust,source\n"
        'Cerebras WSE-3,"Llama-3.1-8B, 1 wafer",1800,tok/s/user,vendor,high,x\n'
        'Cerebras WSE-3,"Llama-3.1-70B, four wafers, with speculative decoding",2100,tok/s/user,vendor,medium,x\n'
        "Groq LPU v1,on-chip SRAM per chip,230,MB,spec,high,x\n"
        "Somebody,SRAM per chip,1,MB,spec,high,x\n"
    )
    (tmp_path / "sram_machines.csv").write_text(rows, encoding="utf-8")
    rates, sheets = compare_sram(FACTS, tmp_path)
    assert rates.unanswered == 1
    assert 1 / 1.3 < rates.predicted[0] / 1800 < 1.3
    assert sheets.predicted.tolist() == [pytest.approx(230.0)]


TRTLLM = (
    "doc,model,gpu,tp,precision,batch,isl,osl,metric,value,unit,source\n"
    "a,Llama-3.1-8B,H100,1,FP8,max load (in-flight batching),128,128,total output throughput,28312,tok/s (all GPUs),x\n"
    "a,LLaMA-7B,H100,1,FP8,64,128,128,output throughput,9000,tok/s per GPU,x\n"
    "a,LLaMA-2-70B,H100,4,FP8,64,128,128,output throughput,900,tok/s per GPU,x\n"
    "a,LLaMA-7B,H100,1,FP8,1,128,1,first token latency,7,ms,x\n"
)


def test_rows_of_an_engine_alone_are_compared_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "trtllm_throughput.csv").write_text(TRTLLM, encoding="utf-8")
    load_rate, first, static, grouped = compare_throughput(FACTS, tmp_path)
    assert [len(each.measured) for each in (load_rate, first, static, grouped)] == [1, 1, 1, 1]
    assert first.measured.tolist() == [pytest.approx(0.007)]
    assert first.predicted[0] < 0.02
    assert static.predicted[0] > 4.0 * grouped.predicted[0] * 0.5
    assert "XQA" in grouped.quantity


def test_operations_of_papers_and_best_rates_are_compared_with_the_kernels(tmp_path: Path) -> None:
    ops = "op,gpu,M,N,K,value,unit\nmatmul_fp16,A100,8192,8192,8192,3.96,ms\nall_reduce_x,A100x4,1e9,,,6700,us\n"
    best = (
        "kind,device,config,size_or_shape,metric,value,peak,unit,source\n"
        'matmul,H100 SXM,"bf16 dense, best shape found",2048x2048x13312,max achieved,794.5,989,TFLOP/s,x\n'
        "all-reduce,H100,8 GPUs 1 node,10 GB,busbw,370,450,GB/s,x\n"
        "vector add,H100,fp32,N=65536,time,1.5,0.23,us,x\n"
    )
    (tmp_path / "ops_some.csv").write_text(ops, encoding="utf-8")
    (tmp_path / "matmul_best_rates.csv").write_text(best, encoding="utf-8")
    found = compare_operations(FACTS, tmp_path)
    assert [(each.anchor, each.chip[0]) for each in found] == [
        ("ops_some", "a100-80g"),
        ("ops_some", "a100-80g"),
        ("matmul_best_rates", "h100-sxm"),
        ("matmul_best_rates", "h100-sxm"),
    ]
    assert all(abs(float(each.errors[0])) < 0.25 for each in found)


def test_an_engines_own_kernels_of_a_class_are_those_of_the_makers_on_whose_chips_it_was_measured() -> None:
    there, elsewhere = (chip_from_facts(FACTS, name).calibration for name in ("l40s", "mi250x"))
    own = {condition for kind, condition in there.kernels if kind == "matmul" and " " in condition}
    assert "bf16 vllm" in own
    # llama.cpp has its own for every maker
    assert {condition.partition(" ")[2] for _, condition in elsewhere.kernels} == {"", LOCAL}
    assert elsewhere.kernel("matmul", "bf16", "vllm") == elsewhere.kernel("matmul", "bf16")
