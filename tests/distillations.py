"""A distillation that runs in seconds, what it leaves, and commands that are run by two processes or shot at random."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECIPE = """
name = "half"
seed = 1
data = "{data}"
out_of_domain = "{other}"

[[teachers]]
model = "{teacher}"

[student]
kind = "depth"
keep_layers = 3

[signals]
kind = "{signals}"

[text]
window_tokens = 32
train_tokens = {tokens}
heldout_tokens = 256
out_of_domain_tokens = 256

[train]
tokens = {tokens}
windows_per_step = 4
learning_rate = 1e-3
checkpoint_every_steps = 3
arithmetic = "bf16"
"""


def written(path: Path, teacher: Path, data: Path, signals: str = "hidden", tokens: int = 2048) -> Path:
    """A recipe at `path`, with out-of-domain text beside it."""
    other = path.with_name("strangers.txt")
    other.write_text("\n\n".join(f"def step_{i}(x):\n    return x * {i} + {i * i}" for i in range(300)))
    path.write_text(RECIPE.format(teacher=teacher, data=data, other=other, signals=signals, tokens=tokens))
    return path


def weights(out: Path) -> dict[str, Any]:
    """Those of the student that a distillation left."""
    from safetensors.torch import load_file

    return load_file(out / "student" / "model.safetensors")


def metrics(out: Path) -> list[dict[str, float]]:
    """What training wrote down, a row a step."""
    return [json.loads(line) for line in (out / "training" / "metrics.jsonl").read_text().splitlines()]


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    import torch

    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def torchrun(recipe: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """`flashstill distill` by two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "flashstill", "distill"]
    return subprocess.run(
        [*command, str(recipe), "--out", str(out)],
        capture_output=True, text=True, timeout=1200, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip


def shot_at_random(
    command: list[str], out: Path, kills: int, begun: str, longest_s: float, seed: int, look: Callable[[], None]
) -> None:
    """Run a command again and again and kill it at random moments, three of four times within `longest_s` of the line
    that begins with `begun`, else before it, until it was at work `kills` times; then let it end.

    A fast machine may come to the end before: then `look` looks at what is in `out`, it begins anew, and moments come
    sooner. `look` is called in the end as well."""
    draw, at_work, runs = random.Random(seed), 0, 0
    while at_work < kills:
        runs += 1
        assert runs <= 8 * kills, "it is over before it can be shot"
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        if draw.random() < 0.25:
            time.sleep(draw.uniform(0.0, 3.0))
        else:
            for line in process.stderr:
                if line.startswith(begun):
                    time.sleep(draw.uniform(0.0, longest_s))
                    break
            else:  # it had nothing to do
                process.wait()
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            look()
            shutil.rmtree(out)
            longest_s /= 2.0
        else:
            assert process.returncode == -signal.SIGKILL
            at_work += 1
        process.stderr.close()
    subprocess.run(command, check=True, capture_output=True)
    look()
