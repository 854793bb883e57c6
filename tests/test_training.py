"""Training steps: figures of Korthikanti et al. 2022 and of MaxText, and what must hold for every plan."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.training import PARTS, TrainingCost, train_step
from flashstill.cost.training_footprint import activation_bytes, state_bytes
from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.parallel.training import TrainingPlan, plan_reason
from flashstill.parallel.training_parameters import end_parameters
from flashstill.validation.anchors.tpu import row_cost, scaled_decoder
from flashstill.validation.anchors.trained import left_out_rows
from flashstill.validation.anchors.training import MODES, compare_training, nemo_plan, spelled
from flashstill.validation.calibration.training import FRAMEWORKS
from flashstill.workload.training import forward, model_flops
from tests.marks import examples

FACTS = load()
GIB = 2.0**30
GPT3 = load_architecture("gpt-3")


def megatron(mode: str) -> TrainingPlan:
    """GPT-3 175B on 64 A100: tensor 8, pipeline 8 with 3 pieces a stage, 64 sequences of 2048."""
    recompute, split = MODES[mode]
    return TrainingPlan(
        batch=64.0,
        length=2048.0,
        tp=8.0,
        pp=8.0,
        interleave=3.0,
        recompute=recompute,
        sequence_parallel=split,
        fused_attention=False,
        dropout=True,
        gradient_bytes=4.0,
    )


def step(
    plan: TrainingPlan, model: str = "llama-3.1-8b", chip: str = "h100-sxm", precision: str = "bf16"
) -> TrainingCost:
    conditions = make_conditions(chip_from_facts(FACTS, chip), uniform(precision, "bf16"))
    return train_step(load_architecture(model), conditions, plan)


class TestKorthikanti:
    """Reducing Activation Recomputation in Large Transformer Models, arXiv 2205.05198."""

    @pytest.mark.parametrize(("mode", "seconds"), [("full", 18.13), ("seqsel", 13.75)])
    def test_iteration_times(self, mode: str, seconds: float) -> None:
        """Table 5."""
        found = train_step(GPT3, make_conditions(chip_from_facts(FACTS, "a100-80g")), megatron(mode))
        assert float(found.seconds) == pytest.approx(seconds, rel=0.12)
        assert bool(found.fits)

    def test_memory(self) -> None:
        """Figure 1, which leaves the embedding out: 45.56 GiB of state; 66.84 GiB of activations, and 12.35."""
        plan = megatron("none")
        ends = 18.0 * float(end_parameters(GPT3, plan))
        assert (float(state_bytes(GPT3, plan)) - ends) / GIB == pytest.approx(45.5625, rel=0.001)
        assert float(activation_bytes(GPT3, plan)) / GIB == pytest.approx(66.84, rel=0.001)
        assert float(activation_bytes(GPT3, megatron("seqsel"))) / GIB == pytest.approx(12.35, rel=0.001)

    @pytest.mark.parametrize(("mode", "percent"), [("seq", 62.0), ("sel", 56.5), ("seqsel", 18.5), ("full", 8.7)])
    def test_what_is_kept(self, mode: str, percent: float) -> None:
        """Figure 7."""
        whole = float(activation_bytes(GPT3, megatron("none")))
        assert 100 * float(activation_bytes(GPT3, megatron(mode))) / whole == pytest.approx(percent, rel=0.01)

    def test_equations(self) -> None:
        """Equations 1, 2 and 4: bytes of one layer without a pipeline."""
        tokens, width, heads = 2048.0, 12288.0, 96.0
        scores = 5 * heads * tokens / width
        one = dataclasses.replace(megatron("none"), tp=1.0, pp=1.0, interleave=1.0)
        per_layer = 96 * tokens * width
        assert float(activation_bytes(GPT3, one)) == pytest.approx(per_layer * (34 + scores))
        split = dataclasses.replace(one, tp=8.0)
        assert float(activation_bytes(GPT3, split)) == pytest.approx(per_layer * (10 + 24 / 8 + scores / 8))
        along = dataclasses.replace(split, sequence_parallel=True)
        assert float(activation_bytes(GPT3, along)) == pytest.approx(per_layer * (34 + scores) / 8)


class TestMaxText:
    """Published rates of MaxText on single slices (its configs/v4, v5e and v5p, and the recipes for v6e)."""

    @pytest.mark.parametrize(
        ("model", "chip", "chips", "mfu"),
        [
            ("22B", "TPU v4", 64, 56.7),
            ("16B", "TPU v5e", 256, 61.1),
            ("32B", "TPU v5e", 256, 66.9),
            ("64B", "TPU v5e", 8192, 50.2),
            ("32B", "TPU v5p", 64, 71.5),
            ("Llama-3.1-70B", "TPU v6e", 256, 50.3),
        ],
    )
    def test_mfu(self, model: str, chip: str, chips: int, mfu: float) -> None:
        row = {"model_or_op": model, "chip": chip, "chips": str(chips), "precision": "bf16", "config": "MaxText"}
        cost, _ = row_cost(FACTS, row)
        assert 100 * float(cost.mfu) == pytest.approx(mfu, rel=0.15)

    @pytest.mark.parametrize("scale", [16, 32, 64, 128, 1024])
    def test_sizes(self, scale: int) -> None:
        assert scaled_decoder(scale).parameters == pytest.approx(scale * 1e9, rel=0.05)


def test_six_flops_for_each_weight_and_token() -> None:
    model, length = load_architecture("llama-3-70b"), 4096.0
    matrices = model.parameters - model.width * model.vocabulary
    attention = 12 * 80 * 8192 * length
    assert model_flops(model, 1.0, length) / length == pytest.approx(6 * matrices + attention, rel=1e-4)
    causal = model_flops(model, 1.0, length, causal=True) / length
    assert causal == pytest.approx(6 * matrices + attention / 2, rel=1e-3)


def test_logits_of_every_position() -> None:
    *_, head = forward(load_architecture("llama-3.1-8b"), 2.0, 512.0)
    assert head.flops == 2 * 1024 * 4096 * 128256


def test_dense_models_on_many_gpus() -> None:
    """NVIDIA NeMo framework, performance summary: Llama 3 70B on 64 and 405B on 1024 H100 in fp8."""
    columns = ["kind", "gpus", "gbs", "mbs", "seq", "fsdp", "tp", "pp", "cp", "vp", "ep"]
    for text, model, rate in (
        ("P 64 256 1 8192 0 4 8 1 5 n/a", "llama-3-70b", 1664),
        ("P 1024 1536 1 8192 0 8 8 2 8 n/a", "llama-3.1-405b", 328),
    ):
        plan = nemo_plan(dict(zip(columns, text.split(), strict=True)))
        found = step(plan, model, precision="fp8")
        assert float(found.tokens_per_s) == pytest.approx(rate, rel=0.2)


@pytest.mark.slow
@examples(40)
@given(
    model=st.sampled_from(["llama-3.1-8b", "qwen3-30b-a3b", "mixtral-8x7b", "deepseek-v2-lite"]),
    chip=st.sampled_from(["a100-80g", "h100-sxm", "tpu-v4", "tpu-v5e", "tpu-v6e"]),
    tp=st.sampled_from([1, 2, 4]),
    pp=st.sampled_from([1, 2]),
    replicas=st.sampled_from([1, 4, 8]),
    sharded=st.booleans(),
    recompute=st.sampled_from(["none", "selective", "projections", "full"]),
    passes=st.sampled_from([2, 8]),
)
def test_what_holds_for_every_step(
    model: str, chip: str, tp: int, pp: int, replicas: int, sharded: bool, recompute: str, passes: int
) -> None:
    plan = TrainingPlan(
        batch=float(replicas * passes),
        length=1024.0,
        tp=float(tp),
        pp=float(pp),
        fsdp=float(replicas if sharded else 1),
        dp=float(1 if sharded else replicas),
        recompute=recompute,
        sequence_parallel=tp > 1,
    )
    found = step(plan, model, chip)
    assert set(found.parts_s) == set(PARTS)
    assert sum(float(part) for part in found.parts_s.values()) == pytest.approx(float(found.seconds))
    assert all(float(part) >= -1e-12 for part in found.parts_s.values())
    assert (float(found.parts_s["tensor"]) > 0) == (tp > 1)
    assert (float(found.parts_s["replicas"]) > 0) == (replicas > 1)
    assert float(found.parts_s["bubble"]) > 0 or pp == 1
    assert 0 < float(found.mfu) < 1
    machine = chip_from_facts(FACTS, chip)
    assert float(found.step.watts_per_chip) <= machine.power_limit_w * (1 + 1e-9)
    assert float(found.hardware_flops_per_s) <= machine.flops_per_s["bf16"]
    conditions = make_conditions(machine)
    assert float(train_step(load_architecture(model), conditions.perfect, plan).seconds) <= float(found.seconds)


def test_what_each_choice_does() -> None:
    base = TrainingPlan(batch=32.0, length=4096.0, tp=2.0, pp=2.0, dp=4.0)

    def changed(**fields: Any) -> TrainingCost:
        return step(dataclasses.replace(base, **fields))

    plain = changed()
    times = [float(changed(recompute=name).seconds) for name in ("none", "selective", "projections", "full")]
    assert times == sorted(times)
    kept = [float(changed(recompute=name).activation_bytes) for name in ("none", "projections", "full")]
    assert kept == sorted(kept, reverse=True)
    assert float(changed(recompute="full").mfu) < float(plain.mfu)
    assert float(changed(interleave=4.0).parts_s["bubble"]) < float(plain.parts_s["bubble"])
    assert float(changed(batch=128.0).mfu) > float(plain.mfu)
    assert float(changed(zero1=True).state_bytes) < float(plain.state_bytes)
    assert float(changed(dp=1.0, fsdp=4.0).state_bytes) < float(changed(zero1=True).state_bytes)
    assert float(changed(fused_attention=False).seconds) > float(plain.seconds)
    assert float(changed(frozen=True).seconds) < float(plain.seconds)
    assert float(changed(sequence_parallel=True).activation_bytes) < float(plain.activation_bytes)
    assert float(step(base, precision="fp8").seconds) < float(plain.seconds)


def test_bubble_of_a_pipeline() -> None:
    """(p - 1) / (v m) of the work where no stage has more to do than another (Narayanan et al. 2021, section 2.2)."""
    plan = TrainingPlan(batch=16.0, length=2048.0, pp=4.0, interleave=2.0)
    parts = step(plan, "gpt-3").parts_s
    share = float(parts["bubble"]) / float(parts["forward"] + parts["backward"])
    # The head makes the last stage of GPT-3 a little longer than the others.
    assert 3 / (2 * 16) <= share <= 1.3 * 3 / (2 * 16)


def test_plans_as_arrays() -> None:
    tp = np.array([1.0, 2.0, 4.0, 8.0])
    together = step(TrainingPlan(batch=8.0, length=2048.0, tp=tp))
    alone = [float(step(TrainingPlan(batch=8.0, length=2048.0, tp=float(each))).seconds) for each in tp]
    assert np.asarray(together.seconds) == pytest.approx(alone)


def test_nonsense_is_refused() -> None:
    model = load_architecture("llama-3.1-8b")
    with pytest.raises(BadInput, match="recomputation"):
        TrainingPlan(batch=1.0, length=1.0, recompute="some")
    reason = plan_reason(model, TrainingPlan(batch=3.0, length=8.0, dp=2.0))
    assert reason is not None
    assert "replicas" in reason
    assert plan_reason(model, TrainingPlan(batch=8.0, length=8.0, tp=3.0))
    assert plan_reason(model, TrainingPlan(batch=8.0, length=8.0, pp=16.0, interleave=4.0))
    assert plan_reason(model, TrainingPlan(batch=8.0, length=8.0, tp=8.0, dp=2.0)) is None


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert compare_training(FACTS, tmp_path) == []


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    lines = [
        "kind,model_or_op,chip,chips,precision,config,metric,value,unit,source",
        "training,16B,TPU v5e,256,bf16,MaxText,MFU,61.1,%,MaxText",
        "training,16B,no such chip,256,bf16,MaxText,MFU,61.1,%,nowhere",
        "training,Llama-3.1-8B,TPU v6e,16,bf16,pdbs3 seq 4096,MFU,40,%,nowhere",
        "serving,16B,TPU v5e,256,bf16,,x,1,%,nowhere",
    ]
    (tmp_path / "tpu_other.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found, left_out = compare_training(FACTS, tmp_path)
    assert found.chip == ("tpu-v5e", "tpu-v6e")
    assert (found.fitted, left_out.fitted) == ("fitted", "left out")
    assert found.unanswered == 1
    assert not np.allclose(found.predicted, left_out.predicted, rtol=1e-4)


def test_models_are_spelled_as_in_the_catalogue() -> None:
    spellings = {
        "LLAMA3.1_405B": "llama-3.1-405b",
        "DeepSeekV3 (dropless)": "deepseek-v3",
        "Nemotron_3_Nano": "nemotron-3-nano-30b-a3b",
        "no such model": "no-such-model",
    }
    assert {name: spelled(name) for name in spellings} == spellings


def test_a_model_left_out_has_coefficients_of_its_own() -> None:
    """Fits without a model differ from the whole fit, and give every coefficient of the framework."""
    rows = left_out_rows("mixtral-8x7b")
    assert {row.name for row in rows} == {"engine-maxtext"}
    assert {row.quantity for row in rows} == set(FRAMEWORKS[("maxtext",)])
    assert any(row.value != FACTS.value(row.name, row.quantity) for row in rows)
