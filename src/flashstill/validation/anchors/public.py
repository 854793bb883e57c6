"""Public cases from cookbooks, issues and blogs (serving_public.csv); no coefficient is fitted to single ones of them.

A row with a measured time per output token is compared by it, any other by its output rate; joules per output token
where they were measured.  Lengths that the source does not state are taken as those of a short chat.  Rows of
attention in parallel over more chips than a host has are of decode pools (DeepSeek's EP144, SGLang's EP72): two
micro-batches overlap, and as many prefill pools of 32 chips as keep them busy stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flashstill.facts import Facts
from flashstill.plan.predict import Case
from flashstill.validation.anchors.rated import JOULES, RATE, TPOT, TTFT, Measured, compared
from flashstill.validation.anchors.tables import MILLI, read_rows
from flashstill.validation.comparison import Comparison

PUBLIC = "serving_public"
USED = ("gpu-amd", "tpu-google", "sram-cerebras", "sram-groq")
"""makers' classes with estimates from groups of these rows"""
ISL, OSL = 200, 500
"""lengths of a short chat, for rows that state none"""
_CHIPS_OF_A_HOST = 8
_PREFILL = {"prefill_chips": 32, "prefill_tp": 1, "prefill_dp": 32, "prefill_ep": 32, "prefill_instances": 64}
"""prefill pools as DeepSeek published them (EP32), as many as are never the limit"""
_COUNTS = ("chips", "tp", "pp", "ep", "dp", "isl", "osl", "concurrency", "draft_tokens")
_WORDS = ("model", "chip", "engine", "precision", "kv_precision", "draft")


def compare_public(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparisons by quantity; empty without the file."""
    path = directory / f"{PUBLIC}.csv"
    return compared(facts, PUBLIC, public_rows(path), used=USED) if path.exists() else []


def public_rows(path: Path) -> list[Measured]:
    """The measured figures of all rows."""
    return [
        Measured(case=_case(row), quantity=quantity, value=value)
        for row in read_rows(path)
        for quantity, value in _figures(row)
    ]


def _figures(row: Mapping[str, str]) -> list[tuple[str, float]]:
    tpot, rate = row["measured_tpot_ms"], row["measured_output_tokens_per_s"]
    main = (TPOT, float(tpot) * MILLI) if tpot else (RATE, float(rate))
    more = [
        (TTFT, row["measured_ttft_ms"], MILLI),
        (JOULES, row["measured_joules_per_output_token"], 1.0),
    ]
    return [main, *((quantity, float(text) * scale) for quantity, text, scale in more if text)]


def _case(row: Mapping[str, str]) -> Case:
    columns: dict[str, object] = {name: row[name] for name in _WORDS if row[name]}
    columns |= {name: int(row[name]) for name in _COUNTS if row[name]}
    if row["acceptance"]:
        columns["acceptance"] = float(row["acceptance"])
    if int(row["dp"] or 1) > _CHIPS_OF_A_HOST:
        columns |= {"overlap": "two-batch", **_PREFILL}
    return Case.of(**{"isl": ISL, "osl": OSL, **columns})
