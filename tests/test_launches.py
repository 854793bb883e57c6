"""What an engine adds to a block, on chips of several generations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.phases import block_seconds, decode_step, host_seconds, overhead_seconds, prefill_step
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.hardware.launches import software_of_chip
from flashstill.hardware.software import EAGER
from flashstill.parallel import Layout
from flashstill.plan.deployment import Deployment
from flashstill.plan.predict import Case, predict
from flashstill.plan.setup import conditions_of

FACTS = load()
MODEL = load_architecture("llama-3.1-8b")


def _block_seconds(chip_name: str, engine: str = "vllm") -> float:
    chip = chip_from_facts(FACTS, chip_name)
    software = software_of_chip(FACTS, engine, chip)
    return float(block_seconds(MODEL, make_conditions(chip, uniform("bf16"), software=software)))


@pytest.mark.parametrize(("chip", "timed"), [("a100-80g", "a100-80g"), ("h200-sxm", "h100-sxm"), ("b200", "b200")])
def test_a_block_takes_an_engine_as_much_longer_as_the_chips_shortest_kernel(chip: str, timed: str) -> None:
    floor_s, usual_s = (FACTS.value(name, "matmul.floor_s", "bf16") for name in (timed, "gpu"))
    layer_s = FACTS.value("engine-vllm", "layer_s")
    assert _block_seconds(chip) == pytest.approx(MODEL.depth * layer_s * floor_s / usual_s, rel=1e-12)


def test_an_engine_adds_less_on_each_generation() -> None:
    a100, h100, b200 = (_block_seconds(name, "trtllm") for name in ("a100-80g", "h100-sxm", "b200"))
    assert b200 < h100 < a100


def _first_token_s(model: str, engine: str, chip: str = "h200-sxm") -> tuple[float, float]:
    """What an engine adds to the first token, and what of it belongs to no block."""
    chosen = Deployment(chip=chip, engine=engine)
    software = conditions_of(FACTS, load_architecture(model), chip_from_facts(FACTS, chip), chosen).software
    return software.first_token_s, software.first_s


def test_the_first_token_waits_for_the_launches_of_experts() -> None:
    """58 of DeepSeek-V3's 61 blocks have experts; vLLM compiles its prompts, and a dense model has no experts."""
    first_token_s, first_s = _first_token_s("deepseek-v3", "sglang")
    assert first_token_s == pytest.approx(first_s + 58 * FACTS.value("engine-sglang", "first_block_s"))
    assert first_token_s > first_s > 0.0
    for model, engine in (("deepseek-v3", "vllm"), ("llama-3.1-8b", "sglang")):
        first_token_s, first_s = _first_token_s(model, engine)
        assert first_token_s == first_s


def test_launches_were_measured_on_the_chips_of_one_maker() -> None:
    first_token_s, first_s = _first_token_s("deepseek-v3", "sglang", "mi300x")
    assert first_token_s == first_s


@pytest.mark.parametrize("chip", ["l4", "mi300x", "tpu-v6e"])
def test_chips_without_timed_kernels_and_other_makers_keep_the_row(chip: str) -> None:
    assert software_of_chip(FACTS, "vllm", chip_from_facts(FACTS, chip)).launch_ratio == 1.0


def _eager_ms(model: str, chip: str, batch: float = 1.0, context: float = 256.0, prompt: float = 0.0) -> float:
    machine, shape = chip_from_facts(FACTS, chip), load_architecture(model)
    conditions = make_conditions(machine, uniform("bf16"), software=software_of_chip(FACTS, EAGER, machine))
    if prompt:
        return 1e3 * float(prefill_step(shape, conditions, Layout(), batch, prompt).seconds)
    return 1e3 * float(decode_step(shape, conditions, Layout(), batch, context).seconds)


def test_a_host_that_launches_every_kernel_decides_until_the_chip_has_more_to_do() -> None:
    """Llama 3.1 8B: 20 kernels and 40 for each of 32 blocks, 22 us each; the chip takes longer for long prompts."""
    launches_s = FACTS.value("engine-transformers-eager", "gpu.launch_s") * (20 + 40 * 32)
    for batch in (1.0, 16.0):
        assert _eager_ms("llama-3.1-8b", "h100-sxm", batch) == pytest.approx(1e3 * launches_s, rel=1e-12)
    assert _eager_ms("llama-3.1-8b", "h100-sxm", prompt=512.0) == pytest.approx(1e3 * launches_s, rel=1e-12)
    long = _eager_ms("llama-3.1-8b", "h100-sxm", prompt=65536.0)
    machine = chip_from_facts(FACTS, "h100-sxm")
    software = replace(software_of_chip(FACTS, EAGER, machine), launch_s=0.0)
    conditions = make_conditions(machine, uniform("bf16"), software=software)
    graph = prefill_step(MODEL, conditions, Layout(), 1.0, 65536.0)
    assert long == pytest.approx(1e3 * float(graph.seconds), rel=1e-12)


@pytest.mark.parametrize(
    ("model", "chip", "milliseconds"),
    [
        ("qwen3-8b", "h100-sxm", 32.8),  # deepspeedai/DeepSpeed pull 8494; the chip is not named
        ("llama-2-13b", "a100-80g", 35.7),  # foundation-model-stack pull 69
        ("qwen3-0.6b", "h100-sxm", 41.6),  # FIlipHand/model_inference; the chip is not named
    ],
)
def test_published_eager_steps_lie_within_a_factor_of_a_half(model: str, chip: str, milliseconds: float) -> None:
    assert 1 / 1.5 < _eager_ms(model, chip) / milliseconds < 1.5


def test_norms_and_experts_are_launched_too() -> None:
    """Qwen3: 16 more a block; mixtures of experts: 17 more."""
    software = software_of_chip(FACTS, EAGER, chip_from_facts(FACTS, "h100-sxm"))
    conditions = make_conditions(chip_from_facts(FACTS, "h100-sxm"), uniform("bf16"), software=software)
    counts = {"llama-3.1-8b": 20 + 32 * 40, "qwen3-8b": 20 + 36 * 56, "qwen3-30b-a3b": 20 + 48 * 73}
    for name, count in counts.items():
        assert host_seconds(load_architecture(name), conditions) == pytest.approx(count * software.launch_s)


def test_a_processor_launches_nothing() -> None:
    """Rows of an engine for GPUs do not hold on a CPU, where its kernels are functions of one program."""
    cpu = replace(chip_from_facts(FACTS, "h100-sxm"), chip_class="cpu", maker_class="cpu")
    for engine in ("transformers", EAGER):
        software = software_of_chip(FACTS, engine, cpu)
        assert (software.launch_s, software.layer_s) == (0.0, 0.0)
    assert software_of_chip(FACTS, "transformers", chip_from_facts(FACTS, "h100-sxm")).layer_s > 0.0


@pytest.mark.slow
def test_transformers_dispatches_as_many_kernels_as_the_rows_say() -> None:
    """What a forward pass of tiny models dispatches, views and empty tensors left out, by block."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils._python_dispatch import TorchDispatchMode

    no_kernel = (
        "view t transpose permute expand slice select unsqueeze squeeze reshape alias detach detach_ split empty"
        " empty_like lift_fresh chunk"
    )  # fmt: skip

    mode: Any = TorchDispatchMode

    class Counted(mode):  # type: ignore[misc]
        kernels: int = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.kernels += function.overloadpacket.__name__ not in no_kernel.split()
            return function(*args, **(kwargs or {}))

    def kernels(config: Any) -> int:
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
        ids = torch.ones((1, 16), dtype=torch.long)
        with torch.inference_mode():
            model(ids)
            with Counted() as counted:
                model(ids, logits_to_keep=1)
        return int(counted.kernels)

    sizes = {
        "vocab_size": 256, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16,
    }  # fmt: skip
    for name, more in (
        ("LlamaConfig", 0.0),
        ("Qwen3Config", FACTS.value("engine-transformers-eager", "gpu.norm_launches")),
    ):
        made = getattr(transformers, name)
        two, four = (kernels(made(num_hidden_layers=blocks, **sizes)) for blocks in (2, 4))
        block = FACTS.value("engine-transformers-eager", "gpu.block_launches") + more
        assert (four - two) / 2 == pytest.approx(block), name


@pytest.mark.parametrize(
    ("model", "rate"),
    [("qwen2.5-3b", 6186), ("llama-3.1-8b", 2376), ("qwen2.5-7b", 3576), ("deepseek-r1-distill-qwen-1.5b", 8310)],
)
def test_vllm_of_early_2025_waits_for_its_host(model: str, rate: float) -> None:
    """databasemart.com/blog/vllm-gpu-benchmark-rtx4090: offline, 100 tokens in and 600 out, 256 at a time, 16 bits."""
    case = Case.of(
        model=model, chip="rtx-4090", tp=1, isl=100, osl=600, concurrency=256, precision="bf16", burst_share=0.85
    )
    assert predict(FACTS, [case.but(engine="vllm-v0")])[0].output_tokens_per_s == pytest.approx(rate, rel=0.2)


def test_the_host_of_an_early_vllm_takes_time_for_each_sequence() -> None:
    """2 ms a step, 65 us a sequence, 14 us a block: 2 + 16.64 + 0.45 ms for 256 sequences of Llama 3.1 8B on an L4."""
    chip = chip_from_facts(FACTS, "l4")
    conditions = make_conditions(chip, uniform("bf16"), software=software_of_chip(FACTS, "vllm-v0", chip))
    assert overhead_seconds(MODEL, conditions, 256.0) == pytest.approx(2e-3 + 256 * 65e-6 + 32 * 14e-6)
