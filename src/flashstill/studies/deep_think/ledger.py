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
    cost = spent(config, parameters, chip, read, thought, chains, sum(judged.values()))
    examples = max(1, kept)
    return {
        "chip": chip,
        "teacher_tokens_read": read,
        "teacher_tokens_thought": thought,
        "verifier_calls": cost["verifier_calls"],
        "verdicts": judged,
        "flops": cost["flops"],
        "predicted_usd": cost["predicted_usd"],
        "examples_kept": kept,
        "per_kept_example": {
            "teacher_tokens": thought / examples,
            "verifier_calls": cost["verifier_calls"] / examples,
            "flops": cost["flops"] / examples,
            "predicted_usd": None if cost["predicted_usd"] is None else cost["predicted_usd"] / examples,
        },
    }


def spent(config: Path, parameters: int, chip: str, read: int, thought: int, chains: int, calls: int) -> dict[str, Any]:
    """Costs of the attempts of a model, a teacher or a student; chains, calls: number of attempts, of verdicts."""
    each_usd = usd_per_token(config, chip, max(1, round((read + thought / 2) / chains)))
    return {
        "tokens_read": read,
        "tokens_thought": thought,
        "verifier_calls": calls,
        "flops": 2.0 * parameters * (read + thought),
        "predicted_usd": None if each_usd is None else thought * each_usd,
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
