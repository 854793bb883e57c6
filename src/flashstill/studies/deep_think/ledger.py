"""The cost of the teacher's attempts: tokens, verdicts, FLOPs, and predicted dollars on a chip.

FLOPs    2 x parameters x (prompt tokens + generated tokens)     (Kaplan et al. 2020, section 2.1, without attention)
dollars  generated tokens x the price of a decoded token on `chip`, half-way through a chain, at the cheapest batch
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

BATCHES = (1, 8, 64, 256)


def ledger(
    config: Path, parameters: int, chip: str, read: int, thought: int, chains: int, judged: dict[str, int], kept: int
) -> dict[str, Any]:
    """Costs of one teacher.

    config: its config.json; read, thought: tokens of prompts and of answers; judged: outcome -> answers; kept: training
    examples.
    """
    half_way = max(1, round((read + thought / 2) / chains))
    each_usd = usd_per_token(config, chip, half_way)
    dollars = None if each_usd is None else thought * each_usd
    flops = 2.0 * parameters * (read + thought)
    examples = max(1, kept)
    return {
        "chip": chip,
        "teacher_tokens_read": read,
        "teacher_tokens_thought": thought,
        "verifier_calls": sum(judged.values()),
        "verdicts": judged,
        "flops": flops,
        "predicted_usd": dollars,
        "examples_kept": kept,
        "per_kept_example": {
            "teacher_tokens": thought / examples,
            "verifier_calls": sum(judged.values()) / examples,
            "flops": flops / examples,
            "predicted_usd": None if dollars is None else dollars / examples,
        },
    }


def usd_per_token(config: Path, chip: str, context: int) -> float | None:
    """Predicted dollars of a decoded token after `context` others; None if the chip has no price."""
    from flashstill.arch.catalogue import read_config
    from flashstill.facts import load
    from flashstill.plan.grid import price_grid

    shape = read_config(config, "teacher")
    rows = price_grid(load(), [shape], [chip], BATCHES, context)
    dollars = [row.usd_per_million_tokens for row in rows if row.phase == "decode"]
    known = [usd for usd in dollars if usd is not None]
    return min(known) / 1e6 if known else None
