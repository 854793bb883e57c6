"""Made-up traces for tests of fleets: long prompts with short answers, and short ones of a chat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LONG = {"prompt": (3000, 6000), "answer": (20, 60), "gap_s": 0.25}
SHORT = {"prompt": (50, 300), "answer": (50, 150), "gap_s": 0.2}


def trace_of(path: Path, shape: dict[str, Any], requests: int = 240) -> Path:
    numbers = np.random.default_rng(7)
    rows = zip(
        np.cumsum(numbers.exponential(shape["gap_s"], requests)),
        *(numbers.integers(low, high, requests) for low, high in (shape["prompt"], shape["answer"])),
        strict=True,
    )
    lines = [f"{time:.4f},{prompt},{output}" for time, prompt, output in rows]
    path.write_text("arrival_s,input_tokens,output_tokens\n" + "\n".join(lines))
    return path
