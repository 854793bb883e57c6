"""Answers of commands as their JSON is, made by hand: of a chip of one's own, a shared fleet, a simulation."""

from __future__ import annotations

from typing import Any

HOSTILE = "<script>alert('x')</script>\"&"


def interval(low: float | None, middle: float | None, high: float | None) -> dict[str, float | None]:
    return {"p10": low, "p50": middle, "p90": high}


def driver(name: str, low: float | None, high: float | None) -> dict[str, Any]:
    return {
        "name": name, "quantity": "wafer_usd", "unit": "USD", "value": 2.0, "low": 1.0, "high": 3.0, "kind": "estimate",
        "source": f"a source of {name}", "first": 0.25, "first_error": 0.01, "total": 0.3, "total_error": 0.01,
        "at_low": low, "at_high": high, "break_even_at_low": None if low is None else low * 1e2,
        "break_even_at_high": 4e11,
    }  # fmt: skip


def variant(factor: float = 1.0) -> dict[str, Any]:
    return {
        "pays": True, "probability_that_it_pays": 0.8, "variant": "sram", "node": "n5", "dies": 64,
        "break_even_tokens_per_day": interval(1e11 * factor, 4e11 * factor, None),
        "usd_per_million_tokens": {"asic": 0.2, "alternative": 0.5},
        "usd_per_million_tokens_interval": {"asic": interval(0.1, 0.2, 0.4), "alternative": interval(0.3, 0.5, 0.8)},
        "nre_usd": 4e8, "nre_usd_interval": interval(3e8, 4e8, 6e8), "net_present_usd": interval(-1e8, 9e8, 2e9),
        "nre": {"parts_usd": {"hardware": 3e8, "masks": 1e8}, "rewiring_usd_per_model": 3e6},
        "package": {
            "dies": 300.0, "packaging": 200.0, "bill_of_materials": 500.0, "bought": 900.0, "with_board": 1500.0,
        },
        "joules_per_token": {"arithmetic": 0.05, "weights": 0.1},
        "drivers": [driver("n5", 1e9, 5e8), driver(HOSTILE, None, 7e8)],
        "curve": [
            {"tokens_per_day": volume, "asic": interval(1e10 / volume, 4e10 / volume, 9e10 / volume),
             "alternative": interval(0.3, 0.5, 0.8)}
            for volume in (1e10, 1e11, 1e12)
        ],
        "as_share_of_training_run": [{"training_usd": 1e7, "nre_ratio": interval(30.0, 40.0, 60.0)}],
        "schedule": {"design_years": 2.25},
        "at_values": {"net_usd": 8e8, "break_even_tokens_per_day": 3.5e11},
        "notes": [HOSTILE],
    }  # fmt: skip


ASIC: dict[str, Any] = {
    "schema": "flashstill.asic/1", "version": "1", "question": {"model": HOSTILE, "volume": 2e12},
    "edits": [{"row": HOSTILE, "value": 1.0}], **variant(), "variants": {"sram": variant(), HOSTILE: variant(2.0)},
}  # fmt: skip


def capacity(steps: int, step_hours: float = 1.0) -> dict[str, Any]:
    """A fleet whose training gets what serving leaves over: more by night."""
    serving = [300.0 + 200.0 * (8 <= hour * step_hours % 24 < 20) for hour in range(steps)]
    kind = {
        "available": [800.0] * steps, "products": {"chat": serving, HOSTILE: [50.0] * steps},
        "runs": {"next": [700.0 - each for each in serving]}, "idle": [50.0] * steps,
    }  # fmt: skip
    return {
        "schema": "flashstill.capacity/1", "status": "infeasible", "seconds": 0.1, "cost_usd": 1e6, "gap": 0.01,
        "fits": False,
        "allocation": {
            "step_hours": step_hours, "hours": [step_hours * step for step in range(steps)],
            "kinds": {"h200-sxm": kind},
            "products": {"chat": {"owed_tokens_per_s": serving, "served_tokens_per_s": serving}},
        },
        "chip_hours": [{"chip": "h200-sxm", "for": "chat", "chip_hours": 12345.678, "ratio": 0.5}],
        "training_finishes": [{"run": "next", "deadline": 90.0, "finishes": 72.0, "teacher": None},
                              {"run": "late", "deadline": 90.0, "finishes": None, "teacher": "next"}],
        "duals": {"unit": "usd", "chips": {"h200-sxm": {"one_more": 12.5, "per_chip_hour": [0.0, 2.5] * (steps // 2)}},
                  "work": {"next": 1.25}, "one_more_nine": None},
        "violations": [{"kind": "demand", "product": "chat", "hour": 7.0, "mend": {"more_chips": {"h200-sxm": 12}}}],
        "frontier": [{"served_ratio": 0.5, "peak_requests_per_s": 100.0, "finishes": {"next": 21.0, HOSTILE: None}},
                     {"served_ratio": 1.0, "peak_requests_per_s": 200.0, "finishes": {"next": 27.5, HOSTILE: None}}],
        "notes": [HOSTILE],
    }  # fmt: skip


ENDS = {f"p{at}": {"value": 0.002 * at, "low": 0.001 * at, "high": None} for at in (50, 90, 95, 99)}
LATENCY = {"n": 100, "mean_s": 0.2, **ENDS}
NAMES = ("running", "queued", "cache_blocks", "working", "output_tokens", "utilisation")
SIMULATION: dict[str, Any] = {
    "requests": 100, "seconds": 50.0, "seed": 3, "steady": {"is_steady": False}, "refused": 2, "preemptions": 1,
    "notes": ("a <note>",), "output_tokens_per_s": 1234.0, "mean_running": 3.5, "utilisation": 0.5,
    "goodput_per_s": 1.0,
    "joules_per_output_token": 2.0, "usd_per_million_output_tokens": None, "usd_per_million": None,
    "latencies": {"ttft_s": LATENCY, "tpot_s": LATENCY}, "moment_s": 0.5,
    "timeline": {name: [0.0, 1.0, 2.5, 0.0] for name in NAMES},
    "deployment": {"chip": "<b>chip</b>"}, "policy": {"replicas": 2}, "traffic": {"rate": 4.0},
}  # fmt: skip
KNEE: dict[str, Any] = {
    "rate": 7.5, "low": 7.0, "high": 8.0, "closed_form": 7.4, "agrees": True, "binds": "memory", "notes": ("another",),
    "bounds": {"percentile": 95.0, "rate": 5.0, "low": 4.0, "high": 6.0, "binds": "ttft"},
}  # fmt: skip


def loads(count: int) -> list[dict[str, Any]]:
    """Rows of a sweep over so many loads, of two seeds each."""
    return [
        {"label": "base", "load": float(load), "seed": seed, "ttft_p95_s": 0.1 * load, "tpot_p95_s": 0.01,
         "output_tokens_per_s": 100.0 * load, "goodput_ratio": 1.0, "steady": True}
        for load in range(1, count + 1)
        for seed in (0, 1)
    ]  # fmt: skip
