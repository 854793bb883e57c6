"""Answers about the years ahead: the roadmap of a year with its trends, the ceiling of one user, arrays by edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flashstill.arch import Architecture
from flashstill.codesign.arrays import ArrayCost
from flashstill.codesign.backtest import COMPARED, Guess, chip_vector, compared, lines
from flashstill.codesign.ceiling import Ceiling
from flashstill.codesign.dated import known_by
from flashstill.codesign.future import KINDS, Roadmap
from flashstill.codesign.futures import DRIVERS, driver_trend
from flashstill.codesign.proposals import design_vector, designed, searched
from flashstill.codesign.regression import Trend
from flashstill.codesign.roadmap import facts_of, few_rows, roadmap
from flashstill.codesign.trends import CHIPS, chip_trend, stack_trend, wafer_trend
from flashstill.errors import MissingFact
from flashstill.facts import Facts
from flashstill.tables import Displayed, Table, records_table

_WORDS = {
    "stack_bytes": "bytes of a stack of HBM",
    "stack_bytes_per_s": "bandwidth of a stack of HBM",
    "usd_per_wafer": "dollars of a wafer",
    **{quantity: words for words, quantity in DRIVERS.values()},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrendsAnswer(Displayed):
    """The roadmap of a year, the lines behind it, and (if asked) a back-test.

    chips, others: lines by name.  processes: those known by then, the newest last.  came: vectors of the chips that
    came, by name.  guesses: nearest first.
    """

    plan: Roadmap
    chips: dict[str, Trend]
    others: dict[str, Trend]
    processes: tuple[dict[str, float | None], ...]
    came: dict[str, dict[str, float]]
    guesses: tuple[Guess, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The answer as a JSON document."""
        return {
            "roadmap": self.plan.as_dict(),
            "processes": list(self.processes),
            "trends": {name: trend.as_dict() for name, trend in {**self.chips, **self.others}.items()},
            "back_test": {"came": self.came, "guesses": [guess.as_dict() for guess in self.guesses]},
            "notes": list(self.notes),
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One flat record for each driver of the roadmap, for pandas or polars."""
        return [
            {"driver": name, "year": self.plan.year, **spread.as_dict()} for name, spread in self.plan.others.items()
        ]

    def _table(self) -> Table:
        names = ("driver", "value", "low", "high", "unit")
        title = f"a chip of {self.plan.year}, by what was known at the end of {self.plan.as_of}"
        return records_table(self.as_records(), names, title)


@dataclass(frozen=True, kw_only=True, slots=True)
class CeilingAnswer(Displayed):
    """The best tokens a second for one user, by memory, synchronisation and context. wanted: tokens a second."""

    model: str
    chip: str
    wanted: float
    rows: tuple[Ceiling, ...]

    @property
    def reached(self) -> tuple[Ceiling, ...]:
        """The rows that reach what is wanted."""
        return tuple(row for row in self.rows if row.tokens_per_s >= self.wanted)

    def as_dict(self) -> dict[str, Any]:
        """The answer as a JSON document."""
        return {
            "model": self.model,
            "chip": self.chip,
            "wanted_tokens_per_s": self.wanted,
            "reached": len(self.reached),
            "rows": self.as_records(),
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One flat record for each memory, synchronisation and context."""
        return [{**row.as_dict(), "reaches": row.tokens_per_s >= self.wanted} for row in self.rows]

    def _table(self) -> Table:
        names = ("memory", "sync_s", "context", "tokens_per_s", "chips", "bound", "reaches")
        return records_table(self.as_records(), names, f"{self.model}, one user, chips as {self.chip} at their peaks")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArraysAnswer(Displayed):
    """Systolic arrays by edge, and which is best by energy x delay.

    shares: edge -> share of draws of the fact rows in which it is best.
    """

    model: str
    tokens: int
    precision: str
    node_nm: int
    rows: tuple[ArrayCost, ...]
    shares: dict[int, float]

    @property
    def best(self) -> ArrayCost:
        """The one of least joules x seconds."""
        return min(self.rows, key=lambda row: row.energy_delay)

    def as_dict(self) -> dict[str, Any]:
        """The answer as a JSON document."""
        return {
            "model": self.model,
            "tokens": self.tokens,
            "precision": self.precision,
            "node_nm": self.node_nm,
            "best_edge": self.best.edge,
            "rows": self.as_records(),
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One record for each edge."""
        return [{**row.as_dict(), "best_share": self.shares[row.edge]} for row in self.rows]

    def _table(self) -> Table:
        names = ("edge", "arrays", "seconds", "utilisation", "total_joules", "energy_delay_js", "best_share")
        title = f"{self.model}, {self.tokens:,} tokens, {self.precision}, {self.node_nm} nm"
        return records_table(self.as_records(), names, title)


def trends_of(
    facts: Facts,
    year: int,
    as_of: int | None = None,
    came: tuple[str, ...] = (),
    model: Architecture | None = None,
    load: tuple[int, int, int] = (512, 128, 16),
) -> TrendsAnswer:
    """The roadmap of a year and its trends. came: chips of a back-test; model: chips are proposed for it as well.

    load: tokens of a prompt and of an answer, and sequences in flight, of the chip that is proposed.
    """
    plan = roadmap(facts, year, as_of)
    known = known_by(facts, plan.as_of)
    notes = list(plan.notes)
    chips = {key: chip_trend(known, key) for key in CHIPS if key in plan.others}
    others: dict[str, Trend] = {}
    lacking: list[str] = []
    asked: dict[str, Callable[[], Trend]] = {
        "stack_bytes": partial(stack_trend, known, "stack_bytes", plan.as_of),
        "stack_bytes_per_s": partial(stack_trend, known, "stack_bytes_per_s", plan.as_of),
        "usd_per_wafer": partial(wafer_trend, known),
        **{DRIVERS[kind][1]: partial(driver_trend, known, kind) for kind in KINDS},
    }
    for name, fit in asked.items():
        try:
            others[name] = fit()
        except MissingFact:
            lacking.append(_WORDS[name])
    if lacking:
        notes.append(few_rows(plan.as_of, list(dict.fromkeys(lacking))))
    guesses: tuple[Guess, ...] = ()
    if came:
        vectors = dict(lines(facts, year, plan.as_of))
        if model is not None:
            design = designed(facts, model, year, plan.as_of, *load)
            vectors[f"designed for {model.name}"] = design_vector(design)
            vectors[f"searched for {model.name}"] = searched(facts, model, year, plan.as_of, *load[:2])
        guesses = compared(facts, vectors, came)
    return TrendsAnswer(
        plan=plan,
        chips=chips,
        others=others,
        processes=_processes(facts_of(facts, year, as_of)),
        came={name: {key: chip_vector(facts, name)[key] for key in COMPARED} for name in came},
        guesses=guesses,
        notes=tuple(dict.fromkeys(notes)),
    )


_OF_PROCESS = (
    "volume_year", "known_year", "transistors_per_mm2", "cell_um2", "logic_energy_ratio", "usd_per_wafer", "clock_hz",
)  # fmt: skip


def _processes(facts: Facts) -> tuple[dict[str, float | None], ...]:
    """Each process with its numbers by quantity, None where no row gives one."""
    names = [name for name, what in facts.rows if what == "volume_year" and facts.find(name, "usd_per_wafer")]
    found: list[dict[str, float | None]] = []
    for name in sorted(names, key=lambda name: (facts.value(name, "volume_year"), name)):
        rows = {quantity: facts.find(name, quantity) for quantity in _OF_PROCESS}
        numbers = {quantity: None if row is None else row.value for quantity, row in rows.items()}
        found.append({"node_nm": float(name.removeprefix("node-")), **numbers})
    return tuple(found)
