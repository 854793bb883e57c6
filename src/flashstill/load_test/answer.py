"""A measurement as one JSON document, with the definitions of all that it holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from flashstill.load_test.dialects import Dialect
from flashstill.load_test.failures import KINDS
from flashstill.load_test.question import LoadTest
from flashstill.load_test.saturation import Saturation
from flashstill.load_test.statistics import STATIONARITY, Distribution
from flashstill.load_test.summary import DEFINITIONS, LevelResult
from flashstill.servers import proxy_of
from flashstill.tables import Displayed, Table, cell

BUSY_CLIENT, LATE_S, BUNCHED = 0.5, 0.01, 1.1
"""share of a core, seconds late, and tokens per event from which a reader is told"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement(Displayed):
    """A measured server. exact_prompts: whether a tokenizer counted the prompts; energy: the meters, or why not.

    trace_notes: what was left out of the trace, and the like; empty where all runs were there already."""

    asked: LoadTest
    dialect: Dialect
    context: int | None
    exact_prompts: bool
    energy: str
    levels: tuple[LevelResult, ...]
    saturation: Saturation | None
    resumed_runs: int
    trace_notes: tuple[str, ...] = ()

    @property
    def ok(self) -> int:
        """Requests that ended well."""
        return sum(level.ok for level in self.levels)

    def as_dict(self) -> dict[str, Any]:
        """All figures with their definitions, as plain values."""
        return document(self)

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per level and latency: n, mean, and each percentile with its ends, in seconds."""
        rows = []
        for level in self.levels:
            for name, each in level.latencies.items():
                row = {"load": level.level.kind, "value": level.level.value, "latency": name, "n": each.n}
                row |= {"mean_s": each.mean, "output_tokens_per_s": level.output_tokens_per_s, "ok": level.ok}
                for share, end in each.percentiles.items():
                    row |= {f"p{share}": end.value, f"p{share}_low": end.low, f"p{share}_high": end.high}
                rows.append(row)
        return rows

    def _table(self) -> Table:
        names = ("load", "value", "latency", "n", "mean_s", "p50", "p90", "p95", "p99")
        rows = [[cell(row[name]) for name in names] for row in self.as_records()]
        return Table(names, rows, f"{self.dialect.model} at {self.asked.address}")


def document(found: Measurement) -> dict[str, Any]:
    """All figures of a measurement."""
    asked, dialect = found.asked, found.dialect
    return {
        "server": asked.address,
        "served_model": dialect.model,
        "api": asked.api,
        "replay": None if asked.trace is None else asked.replay,
        "asks_as": dialect.name,
        "forces_length": dialect.forces_length,
        "counts_by_usage": dialect.has_usage,
        "context_tokens": found.context,
        "exact_prompts": found.exact_prompts,
        "template_tokens": dialect.template_tokens,
        "energy": found.energy,
        "resumed_runs": found.resumed_runs,
        "levels": [level_document(level) for level in found.levels],
        "saturation": None if found.saturation is None else dataclasses.asdict(found.saturation),
        "warm_up": STATIONARITY if asked.warm_up else f"none: {asked.runs} runs",
        "definitions": DEFINITIONS,
        "notes": notes(found),
    }


def level_document(result: LevelResult) -> dict[str, Any]:
    """One level: counts, latencies over requests, and figures over runs."""
    kind, value = result.level.kind, result.level.value
    steady = result.steady
    return {
        "load": kind,
        kind if kind != "trace" else "speed": int(value) if result.level.is_count else value,
        "requests": result.requests,
        "ok": result.ok,
        "failures": result.failures,
        "failure_details": result.details,
        "short_answers": result.short,
        "long_answers": result.long,
        "counted_by_usage": result.counted_by_usage,
        "prompt_tokens": result.prompt_tokens,
        "wanted_prompt_tokens": result.wanted_prompt_tokens,
        "output_tokens": result.output_tokens,
        "wanted_output_tokens": result.wanted_output_tokens,
        "tokens_per_event": result.tokens_per_event,
        "reasoning_answers": result.reasoning,
        "latencies": {name: _distribution(each) for name, each in result.latencies.items()},
        "over_runs": {name: dataclasses.asdict(each) for name, each in result.over_runs.items()},
        "runs": list(result.runs),
        "client_lag_s": result.lag_s,
        "client_late_s": result.late_s,
        "burst_share": result.burst_share,
        "spacing_s": result.spacing_s,
        "turnaround_s": result.turnaround_s,
        "steady": None if steady is None else {**dataclasses.asdict(steady), "is_steady": steady.is_steady},
        "turns": result.turns,
        "late_turns": result.late_turns,
        "late_turn_mean_s": result.late_turn_mean_s,
        "warm_up": result.warm_up,
    }


def _distribution(each: Distribution) -> dict[str, Any]:
    ends = {f"p{share}": dataclasses.asdict(value) for share, value in each.percentiles.items()}
    return {"n": each.n, "mean": each.mean, **ends}


def notes(found: Measurement) -> list[str]:
    """What a reader must know before using the figures."""
    told = list(found.trace_notes)
    levels = found.levels
    if proxy := proxy_of(found.asked.address):
        told.append(f"requests went through the proxy {proxy} of the environment, whose time is in all latencies")
    if not found.exact_prompts:
        told.append("prompts are of approximate length, as no tokenizer was given; the server's counts are reported")
    if not found.dialect.has_usage:
        told.append("the server sends no usage: output tokens are events with text, which may carry several tokens")
    if any(level.short for level in levels):
        short, well = sum(level.short for level in levels), found.ok
        told.append(f"{short:,} of {well:,} answers have fewer tokens than asked for")
    if any(level.long for level in levels):
        long = sum(level.long for level in levels)
        told.append(f"{long:,} answers have more tokens than asked for, by the server's count: do not trust its rates")
    if any(level.reasoning for level in levels):
        told.append("some answers begin with reasoning: ttft_s counts its first token, first_answer_s does not")
    bunched = max((level.tokens_per_event or 1.0 for level in levels), default=1.0)
    if bunched > BUNCHED:
        told.append(f"an event with text carries {bunched:.2g} tokens: inter_token_s are gaps between events")
    most = max(map(_ratio, levels), default=0.0) / found.asked.clients
    if most > BUSY_CLIENT:
        told.append(f"a client used {most:.0%} of a processor core: it may be what was measured; give more --clients")
    if any(level.lag_s > LATE_S for level in levels):
        most = max(level.lag_s for level in levels)
        told.append(
            f"this client woke up to {most * 1e3:,.0f} ms late: the machine was busy, and times may be too long"
        )
    for level in levels:
        if level.warm_up is not None and not level.warm_up["is_stationary"]:
            told.append(f"{level.level}: the warm-up did not become stationary")
        if level.failures:
            counted = "; ".join(f"{KINDS[kind]}: {count:,}" for kind, count in level.failures.items())
            told.append(
                f"{level.level}: {level.requests - level.ok:,} of {level.requests:,} requests failed ({counted})"
            )
    return told


def _ratio(level: LevelResult) -> float:
    found = level.over_runs.get("client_processor_ratio")
    return 0.0 if found is None else found.median
