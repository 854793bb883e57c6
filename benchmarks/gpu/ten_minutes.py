#!/usr/bin/env python3
"""What a GPU makes of the learning arm, in ten minutes: run it on the machine, bring back the JSON.

    python benchmarks/gpu/ten_minutes.py --out gpu.json [--peer PYTHON]    # PYTHON: of an environment with TRL
    python benchmarks/gpu/ten_minutes.py --tiny                            # a random model on any CPU, half a minute

    signals     tokens/s of the teacher's stored hidden states
    step        tokens/s, MFU and peak memory of a distillation step: ours, with blocks run twice, and TRL's GKD trainer
    fsdp2       the same step with the student sharded by FSDP2 over the one GPU there is
    sampling    tokens/s of 256 continuations
    family      `flashstill run` of a small family, whole: seconds and records

A part that fails says why, and the others go on.  MFU = 6 x parameters x tokens/s / the GPU's bf16 peak, which is asked
for with --peak-flops, as no number of a chip stands in the code.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from flashstill.distill.data.packing import Packed  # noqa: E402
from flashstill.distill.models import devices, keep_layers, load_model, load_tokenizer, save_model  # noqa: E402
from flashstill.distill.models.arithmetic import decided  # noqa: E402
from flashstill.progress import Silent  # noqa: E402

SMOLLM, SEED = "smollm2-135m-instruct", 0


class Setting:
    """The models on disk, the windows, and how much of everything."""

    def __init__(self, folder: Path, tiny: bool) -> None:
        from flashstill.distill.teachers import resolve_teacher

        self.folder, self.tiny = folder, tiny
        self.device, self.arithmetic = devices.current(), decided()
        self.length, self.batch, self.steps = (32, 4, 3) if tiny else (1024, 16, 12)
        self.teacher = make_tiny(folder / "teacher") if tiny else resolve_teacher(SMOLLM, Silent())
        teacher = load_model(self.teacher, self.arithmetic.dtype)
        self.vocabulary = int(teacher.get_input_embeddings().weight.shape[0])
        half = keep_layers(teacher, list(range(0, teacher.config.num_hidden_layers, 2)))
        self.student = folder / "student"
        save_model(half, load_tokenizer(self.teacher), self.student)
        self.parameters = sum(weight.numel() for weight in half.parameters())
        self.packed = random_windows(self.batch * self.steps, self.length, self.vocabulary)

    def figures(self, tokens: int, seconds: float, peak_flops: float) -> dict[str, float]:
        """tokens/s, and the share of the peak if it is known."""
        rate = tokens / seconds
        found = {"tokens_per_s": round(rate, 1)}
        if peak_flops:
            found["mfu"] = round(6 * self.parameters * rate / peak_flops, 4)
        return found


def make_tiny(folder: Path) -> Path:
    """A random Llama with a tokenizer of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {"<|end|>": 0, **{letter: 1 + place for place, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>")
    save_model(LlamaForCausalLM(config), fast, folder)
    return folder


def random_windows(windows: int, length: int, vocabulary: int) -> Packed:
    """Random tokens: a step costs the same whatever they are."""
    import numpy as np

    tokens = np.random.default_rng(SEED).integers(0, vocabulary, (windows, length + 1), dtype=np.int32)
    ones = np.ones((windows, length), dtype=np.int32)
    return Packed(tokens=tokens, target_bytes=ones, target_document=np.zeros_like(ones))


def signals(setting: Setting, peak_flops: float) -> dict[str, Any]:
    """Store the teacher's hidden states; the steps below learn from them."""
    from flashstill.distill.models import fingerprint, tokenizer_fingerprint
    from flashstill.distill.signals import Hidden, build, signal_key

    key = signal_key(Hidden(), fingerprint(setting.teacher), tokenizer_fingerprint(setting.teacher), setting.packed)
    (setting.folder / "key.json").write_text(json.dumps(key))
    setting.packed.save(setting.folder / "packed.safetensors")
    teacher = load_model(setting.teacher, setting.arithmetic.dtype)
    built = build(teacher, Hidden(), key, setting.packed, setting.folder / "signals", Silent(), "signals")
    return {"tokens_per_s": round(built.tokens / built.seconds, 1), "bytes_per_token": built.bytes / built.tokens}


def step(setting: Setting, peak_flops: float, recompute: bool = False, sharded: bool = False) -> dict[str, Any]:
    """Some steps of the training loop, in a process of its own, so that its memory is its own."""
    folder = setting.folder / f"step-{recompute}-{sharded}"
    asked = {
        "student": str(setting.student), "folder": str(setting.folder), "out": str(folder), "batch": setting.batch,
        "steps": setting.steps, "precision": setting.arithmetic.precision, "recompute": recompute, "sharded": sharded,
    }  # fmt: skip
    command = [sys.executable]
    if sharded:
        command += ["-m", "torch.distributed.run", "--nproc-per-node", "1"]
    found = last_json([*command, str(HERE / "training_side.py"), json.dumps(asked)])
    seconds = sorted(found["step_s"][1:])[len(found["step_s"][1:]) // 2]
    figures = setting.figures(setting.batch * setting.length, seconds, peak_flops)
    return {**figures, "peak_bytes": found["peak_bytes"], "loss": found["loss"][-1]}


def trl(setting: Setting, peak_flops: float, python: str = "") -> dict[str, Any]:
    """TRL's GKD trainer on the same windows, batch and precision."""
    if not python:
        raise RuntimeError("give --peer PYTHON of an environment with TRL (locks/trl.txt) to compare with it")
    from safetensors.torch import save_file

    save_file({"tokens": torch.from_numpy(setting.packed.tokens).long()}, setting.folder / "windows.safetensors")
    asked = {
        "teacher": str(setting.teacher), "student": str(setting.student), "steps": setting.steps,
        "windows": str(setting.folder / "windows.safetensors"), "batch": setting.batch, "rate": 3e-4, "warmup": 1,
        "threads": torch.get_num_threads(), "weights": "mixed" if setting.arithmetic.precision == "bf16" else "fp32",
        "device": setting.device.type,
    }  # fmt: skip
    peer = [python, str(HERE.parent / "peers" / "trl_peer.py"), json.dumps(asked)]
    found = last_json(peer, "\n" * (setting.steps + 1))
    seconds = sorted(found["step_s"][1:])[len(found["step_s"][1:]) // 2]
    figures = setting.figures(setting.batch * setting.length, seconds, peak_flops)
    return {**figures, "peak_bytes": found["peak_bytes"], "loss": found["loss"][-1]}


def sampling(setting: Setting, peak_flops: float) -> dict[str, Any]:
    """Continuations of prompts that share nothing."""
    from flashstill.distill.generate import Sampling, sample

    rows, new = (16, 8) if setting.tiny else (256, 128)
    teacher = load_model(setting.teacher, setting.arithmetic.dtype)
    prompts = list(random_windows(rows, 15, setting.vocabulary).tokens)
    settings = Sampling(new_tokens=new, batch=rows)
    sample(teacher, prompts[:4], settings)
    devices.wait(setting.device)
    started = time.perf_counter()
    drawn = sample(teacher, prompts, settings)
    devices.wait(setting.device)
    return {"tokens_per_s": round(int(drawn.lengths.sum()) / (time.perf_counter() - started), 1), "rows": rows}


def family(setting: Setting, peak_flops: float) -> dict[str, Any]:
    """A family of one student, all its stages."""
    text = setting.folder / "text.txt"
    text.write_text("\n\n".join(f"The sum of {i} and {i + 7} is {2 * i + 7}." for i in range(4000)))
    tokens, window = (1024, 32) if setting.tiny else (262_144, 512)
    recipe = setting.folder / "family.toml"
    recipe.write_text(
        f'name = "gpu"\nteacher = "{setting.teacher}"\ndata = "{text}"\nout_of_domain = "{text}"\n\n[text]\n'
        f"window_tokens = {window}\ntrain_tokens = {tokens}\nheldout_tokens = {8 * window}\n"
        f"out_of_domain_tokens = {8 * window}\n\n[train]\ntokens = {tokens}\nwindows_per_step = 4\n\n"
        '[[students]]\nname = "half"\nkind = "depth"\nkeep_layers = 2\n\n[measure]\nbatches = [1]\ncontext = 16\n'
        'repeats = 1\n\n[cost]\nchips = ["h100-sxm"]\n'
    )
    started = time.perf_counter()
    command = [sys.executable, "-m", "flashstill", "run", str(recipe), "--out", str(setting.folder / "family")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr.strip().splitlines()[-1])
    records = (setting.folder / "family" / "records.jsonl").read_text().splitlines()
    return {"seconds": round(time.perf_counter() - started, 1), "records": len(records)}


def last_json(command: list[str], given: str = "") -> dict[str, Any]:
    """The last line that a process prints."""
    ran = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    if ran.returncode or not lines:
        raise RuntimeError((ran.stderr.strip().splitlines() or [f"ended with {ran.returncode}"])[-1])
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def machine(setting: Setting) -> dict[str, Any]:
    """What all of it ran on."""
    return {
        "device": devices.name_of(setting.device), "precision": setting.arithmetic.precision,
        "torch": torch.__version__, "tiny": setting.tiny, "cores": len(os.sched_getaffinity(0)),
        "batch": setting.batch, "window": setting.length, "student_parameters": setting.parameters,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tiny", action="store_true", help="a random model, to try the script itself")
    parser.add_argument("--out", type=Path, help="file for the JSON that is also printed")
    parser.add_argument("--peer", default="", help="interpreter of an environment with TRL")
    parser.add_argument("--peak-flops", type=float, default=0.0, help="of the GPU in this precision, for MFU")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(Path(name), arguments.tiny)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "signals": lambda: signals(setting, arguments.peak_flops),
            "step": lambda: step(setting, arguments.peak_flops),
            "step_recompute": lambda: step(setting, arguments.peak_flops, recompute=True),
            "fsdp2": lambda: step(setting, arguments.peak_flops, sharded=True),
            "trl": lambda: trl(setting, arguments.peak_flops, arguments.peer),
            "sampling": lambda: sampling(setting, arguments.peak_flops),
            "family": lambda: family(setting, arguments.peak_flops),
        }
        found: dict[str, Any] = {"machine": machine(setting)}
        for part, work in parts.items():
            started = time.perf_counter()
            try:
                found[part] = work()
            except Exception as error:  # the next part may work
                traceback.print_exc()
                found[part] = {"failed": str(error) or type(error).__name__}
            print(f"{part:<15}{time.perf_counter() - started:6.1f} s  {found[part]}", file=sys.stderr, flush=True)
    if "tokens_per_s" in found["trl"] and "tokens_per_s" in found["step"]:
        found["tokens_per_s_ratio"] = round(found["step"]["tokens_per_s"] / found["trl"]["tokens_per_s"], 3)
        found["peak_memory_ratio"] = round(found["step"]["peak_bytes"] / found["trl"]["peak_bytes"], 3)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
