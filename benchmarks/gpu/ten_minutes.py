#!/usr/bin/env python3
"""What a GPU makes of the learning arm, in ten minutes: run it on the machine, bring back the JSON.

    python benchmarks/gpu/ten_minutes.py --out gpu.json --chip h200-sxm [--peer PYTHON] [--teacher DIRECTORY]
    python benchmarks/gpu/ten_minutes.py --tiny                 # a random model on any CPU, a minute

    signals     tokens/s of the teacher's stored hidden states
    sampling    tokens/s of 256 continuations
    family      `flashstill run` of a small family, whole: seconds and records
    profile     the operations that take most of a step
    bits        whether a run repeated, or stopped and resumed, reaches the same bits; what deterministic kernels cost
    step        tokens/s, MFU and peak memory of a distillation step; also with blocks run twice, with a larger batch
    loss        ms and peak memory of the fused loss by its chunk sizes, and of the plain one, which keeps all logits
    trl         the same windows with TRL's GKD trainer; PYTHON: of an environment with TRL
    fsdp2       the same step with the student sharded by FSDP2 over the one GPU there is

Parts run in this order, each for at most its seconds of LIMITS_S, ten minutes together.  A part that fails or takes too
long says why, and the others go on; the file is written after each part.  MFU = 6 x
parameters x tokens/s / the chip's peak, of the chip that --chip names in facts/chips.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from loss_side import by_chunks
from processes import last_json, ran, within
from setting import SMOLLM, Setting, random_windows

from flashstill.distill.models import devices, load_model
from flashstill.progress import Silent

HERE = Path(__file__).resolve().parent
LIMITS_S = {
    "signals": 30, "sampling": 60, "family": 120, "profile": 50, "bits": 80, "step": 50, "step_larger_batch": 60,
    "loss": 20, "trl": 50, "step_recompute": 40, "fsdp2": 40,
}  # fmt: skip
"""of each part, in the order in which they run"""


def signals(setting: Setting) -> dict[str, Any]:
    """Store the teacher's hidden states; the steps below learn from them."""
    from flashstill.distill.models import fingerprint, tokenizer_fingerprint
    from flashstill.distill.signals import Hidden, build, signal_key

    key = signal_key(Hidden(), fingerprint(setting.teacher), tokenizer_fingerprint(setting.teacher), setting.packed)
    (setting.folder / "key.json").write_text(json.dumps(key))
    setting.packed.save(setting.folder / "packed.safetensors")
    teacher = load_model(setting.teacher, setting.arithmetic.dtype)
    built = build(teacher, Hidden(), key, setting.packed, setting.folder / "signals", Silent(), "signals")
    return {"tokens_per_s": round(built.tokens / built.seconds, 1), "bytes_per_token": built.bytes / built.tokens}


def losses(setting: Setting) -> dict[str, Any]:
    """The fused loss alone, with the teacher's head for both models."""
    weight = load_model(setting.teacher, setting.arithmetic.dtype).get_input_embeddings().weight.detach().clone()
    return by_chunks(weight, setting.batch * setting.length)


def trained(setting: Setting, runs: list[dict[str, Any]], by_torchrun: bool = False) -> list[dict[str, Any]]:
    """Some runs of the training loop, in a process of their own, so that its memory is its own."""
    asked = [
        {
            "student": str(setting.student), "folder": str(setting.folder), "out": str(setting.folder / f"run-{n}"),
            "batch": setting.batch, "steps": setting.steps, "precision": setting.arithmetic.precision, **run,
        } for n, run in enumerate(runs)
    ]  # fmt: skip
    command = [sys.executable]
    if by_torchrun:
        command += ["-m", "torch.distributed.run", "--nproc-per-node", "1"]
    with tempfile.TemporaryDirectory(dir=setting.folder) as place:
        for run in asked:
            run["out"] = str(Path(place) / Path(run["out"]).name)
        runs_found: list[dict[str, Any]] = last_json([*command, str(HERE / "training_side.py"), json.dumps(asked)])[
            "runs"
        ]
    return runs_found


def step(setting: Setting, larger: int = 1, **run: Any) -> dict[str, Any]:
    """A distillation step. larger: times the usual batch."""
    batch = setting.batch * larger
    (found,) = trained(setting, [{"batch": batch, **run}], bool(run.get("sharded")))
    more = {name: found[name] for name in ("peak_bytes", "fused", "weights")}
    return {**setting.figures(batch * setting.length, found["step_s"]), **more, "loss": found["loss"][-1]}


def bits(setting: Setting) -> dict[str, Any]:
    """Digests of the weights after some steps: of a run, the same again, and one that is stopped and resumed; and the
    first with kernels that torch calls deterministic."""
    few = {"steps": 4, "checkpoint_every": 2}
    halted = {**few, "out": "halted"}
    once, again, _, resumed, *same = trained(
        setting,
        [few, few, {**halted, "stop": 2}, halted, {**few, "deterministic": True}, {**few, "deterministic": True}],
    )
    usual, slower = (setting.figures(setting.batch * setting.length, each["step_s"]) for each in (once, same[0]))
    return {
        "repeated": once["weights"] == again["weights"], "resumed": once["weights"] == resumed["weights"],
        "loss_difference": abs(once["loss"][-1] - resumed["loss"][-1]),
        "deterministic_repeated": same[0]["weights"] == same[1]["weights"],
        "deterministic_same_as_usual": same[0]["weights"] == once["weights"],
        "tokens_per_s": usual["tokens_per_s"], "deterministic_tokens_per_s": slower["tokens_per_s"],
    }  # fmt: skip


def profile(setting: Setting) -> dict[str, Any]:
    """The operations of some steps by the time that they take of the device."""
    (found,) = trained(setting, [{"steps": 4, "profile": True}])
    operations: dict[str, Any] = found["operations"]
    return operations


def trl(setting: Setting, python: str = "") -> dict[str, Any]:
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
    figures = setting.figures(setting.batch * setting.length, found["step_s"])
    return {**figures, "peak_bytes": found["peak_bytes"], "loss": found["loss"][-1]}


def sampling(setting: Setting) -> dict[str, Any]:
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


def family(setting: Setting) -> dict[str, Any]:
    """A family of one student, all its stages."""
    text = setting.folder / "text.txt"
    text.write_text("\n\n".join(f"The sum of {i} and {i + 7} is {2 * i + 7}." for i in range(40_000)))
    tokens, window, per_step = (1024, 32, 4) if setting.tiny else (262_144, 512, 16)
    recipe = setting.folder / "family.toml"
    recipe.write_text(
        f'name = "gpu"\nteacher = "{setting.teacher}"\ndata = "{text}"\nout_of_domain = "{text}"\n\n[text]\n'
        f"window_tokens = {window}\ntrain_tokens = {tokens}\nheldout_tokens = {8 * window}\n"
        f"out_of_domain_tokens = {8 * window}\n\n[train]\ntokens = {tokens}\nwindows_per_step = {per_step}\n\n"
        f'[[students]]\nname = "half"\nkind = "depth"\nkeep_layers = {2 if setting.tiny else 15}\n\n'
        '[measure]\nbatches = [1]\ncontext = 16\nrepeats = 1\n\n[cost]\nchips = ["h100-sxm"]\n'
    )
    started = time.perf_counter()
    ran([sys.executable, "-m", "flashstill", "run", str(recipe), "--out", str(setting.folder / "family")])
    records = (setting.folder / "family" / "records.jsonl").read_text().splitlines()
    return {"seconds": round(time.perf_counter() - started, 1), "records": len(records)}


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
    parser.add_argument("--teacher", default=SMOLLM, help="directory of the teacher")
    parser.add_argument("--chip", default="", help="the GPU's name in facts/chips.csv, for MFU")
    parser.add_argument("--only", default="", help="these parts, separated by commas; signals are always made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(Path(name), arguments.tiny, arguments.teacher, arguments.chip)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "signals": lambda: signals(setting),
            "sampling": lambda: sampling(setting),
            "family": lambda: family(setting),
            "profile": lambda: profile(setting),
            "bits": lambda: bits(setting),
            "step": lambda: step(setting),
            "step_larger_batch": lambda: step(setting, larger=2 if setting.tiny else 4),
            "loss": lambda: losses(setting),
            "trl": lambda: trl(setting, arguments.peer),
            "step_recompute": lambda: step(setting, recompute=True),
            "fsdp2": lambda: step(setting, sharded=True),
        }
        only = {"signals", *filter(None, arguments.only.split(","))} if arguments.only else set(parts)
        found: dict[str, Any] = {"machine": machine(setting)}
        for part, limit_s in LIMITS_S.items():
            if part not in only:
                continue
            started = time.perf_counter()
            try:
                with within(4 * limit_s if setting.tiny else limit_s):  # a busy CPU starts processes slowly
                    found[part] = parts[part]()
            except Exception as error:  # the next part may work
                traceback.print_exc()
                found[part] = {"failed": str(error) or type(error).__name__}
            print(f"{part:<18}{time.perf_counter() - started:6.1f} s  {found[part]}", file=sys.stderr, flush=True)
            if {"tokens_per_s"} <= {*found.get("trl", ())} & {*found.get("step", ())}:
                for figure in ("tokens_per_s", "peak_bytes"):
                    found[f"{figure}_ratio"] = round(found["step"][figure] / found["trl"][figure], 3)
            if arguments.out:
                arguments.out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
