"""Exhaustive search over chips, counts, layouts, batches, precisions, placements and speculation.

Every configuration is priced in time, energy, dollars and fit; arrays hold all layouts and batches of one kind of chip,
precision and placement.  Infeasible ones are counted by reason.  The front keeps what no other configuration beats in
time per output token, tokens/s per chip, joules and dollars per token at once.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.cost import Load, Precisions, Speculation, precisions_of, serve, setting
from flashstill.economics import hourly_price
from flashstill.errors import BadInput, InfeasiblePlan, MissingFact
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts, software_of
from flashstill.parallel import Layout, layout_reason
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION

Values = npt.NDArray[np.float64]
NOT_FITTING = "does not fit in memory"
OBJECTIVES = ("tpot_s", "tokens_per_s_per_chip", "joules_per_output_token", "usd_per_million_output_tokens")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is searched for. Bounds are None where they do not matter; precisions: "published" or formats."""

    model: Architecture
    chips: tuple[str, ...]
    max_chips: int
    isl: int
    osl: int
    precisions: tuple[str, ...] = ("published",)
    kv_precisions: tuple[str, ...] = ("bf16",)
    engine: str = "vllm"
    speculations: tuple[Speculation | None, ...] = (None,)
    max_ttft_s: float | None = None
    max_tpot_s: float | None = None
    min_tokens_per_s: float | None = None
    batches: tuple[int, ...] = tuple(2**power for power in range(13))


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One configuration with its figures."""

    chip: str
    chips: int
    tp: int
    pp: int
    ep: int
    dp: int
    batch: int
    precision: str
    kv_precision: str
    weights_in: str
    speculated_tokens: int
    tpot_s: float
    ttft_s: float
    output_tokens_per_s: float
    tokens_per_s_per_chip: float
    joules_per_output_token: float
    usd_per_million_output_tokens: float
    watts_per_chip: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The front, sorted by time per token, and how it was reached."""

    evaluated: int
    feasible: int
    seconds: float
    infeasible: dict[str, int]
    front: tuple[Point, ...]

    def as_json(self) -> dict[str, Any]:
        """The document that `plan --json` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Table:
    """Figures of all feasible configurations of one kind: columns in the order of OBJECTIVES, then the rest."""

    label: dict[str, Any]
    columns: dict[str, Values]


def search(facts: Facts, question: Question) -> Found:
    """Evaluate everything; InfeasiblePlan where nothing is feasible, with the reasons counted."""
    if question.max_chips < 1 or question.isl < 1 or question.osl < 1:
        raise BadInput("max chips, isl and osl must be at least 1")
    if question.isl + question.osl > question.model.context:
        raise BadInput(
            f"isl + osl = {question.isl + question.osl} is beyond the {question.model.context} tokens that"
            f" {question.model.name} was made for"
        )
    started = time.perf_counter()
    reasons: Counter[str] = Counter()
    tables: list[_Table] = []
    evaluated = 0
    for name in question.chips:
        chip = chip_from_facts(facts, name)
        layouts, refused = _layouts(question.model, chip, question.max_chips)
        for precision, kv, tier, speculation in itertools.product(
            question.precisions, question.kv_precisions, chip.tiers, question.speculations
        ):
            count = len(layouts) * len(question.batches)
            evaluated += count + sum(refused.values()) * len(question.batches)
            for reason, times in refused.items():
                reasons[reason] += times * len(question.batches)
            try:
                precisions = precisions_of(question.model, None if precision == "published" else precision, kv)
                chip.precision(precisions.linear)
            except MissingFact:
                reasons["the chip lacks the precision"] += count
                continue
            if layouts:
                tables.append(_priced(facts, question, chip, precisions, tier.name, speculation, layouts, reasons))
                tables[-1].label["precision"] = precision
    feasible = sum(len(table.columns["tpot_s"]) for table in tables)
    if not feasible:
        raise InfeasiblePlan(f"nothing serves {question.model.name} within these bounds", dict(reasons))
    return Found(
        evaluated=evaluated,
        feasible=feasible,
        seconds=time.perf_counter() - started,
        infeasible=dict(reasons),
        front=_front(tables),
    )


def _layouts(model: Architecture, chip: Chip, most: int) -> tuple[list[tuple[int, int, int, int]], Counter[str]]:
    """Layouts of powers of two up to `most` chips, and how many were refused for which reason."""
    powers = [2**power for power in range(most.bit_length()) if 2**power <= most]
    routed = any(layer.ffn.experts for layer in model.layers)
    found, refused = [], Counter[str]()
    for tp, pp, dp in itertools.product(powers, powers, powers):
        if tp * pp * dp > most or (dp > 1 and not routed):
            continue  # replicas of a dense model are the same configuration at a smaller batch
        for ep in [power for power in powers if power <= tp * dp] if routed else [1]:
            reason = layout_reason(model, tp, pp, ep, dp)
            if reason is None and tp * pp * dp > 1 and not chip.link_bytes_per_s:
                reason = "the chip has no links: it stands alone"
            if reason:
                refused[reason.split(":")[0]] += 1
            else:
                found.append((tp, pp, ep, dp))
    return found, refused


def _priced(
    facts: Facts,
    question: Question,
    chip: Chip,
    precisions: Precisions,
    tier: str,
    speculation: Speculation | None,
    layouts: Sequence[tuple[int, int, int, int]],
    reasons: Counter[str],
) -> _Table:
    degrees = np.array(layouts, dtype=np.float64).T[:, :, None]
    batches = np.array(question.batches, dtype=np.float64)[None, :]
    layout = Layout(tp=degrees[0], pp=degrees[1], ep=degrees[2], dp=degrees[3])
    skew = facts.value("routing", "skew_exponent")
    conditions = setting(chip, precisions, tier, tier, software_of(facts, question.engine), skew)
    load = Load(isl=float(question.isl), osl=float(question.osl), concurrency=batches)
    found = serve(question.model, conditions, layout, load, speculation)
    shape = (len(layouts), len(question.batches))

    def whole(quantity: Any) -> Values:
        return np.array(np.broadcast_to(quantity, shape), dtype=np.float64)

    chips, rate = whole(layout.chips), whole(found.output_tokens_per_s)
    usd_per_s = hourly_price(facts, chip.name).usd_per_hour / SECONDS_PER_HOUR
    columns = {
        "tpot_s": whole(found.tpot_s),
        "ttft_s": whole(found.ttft_s),
        "output_tokens_per_s": rate,
        "tokens_per_s_per_chip": rate / chips,
        "joules_per_output_token": whole(found.joules_per_output_token),
        "usd_per_million_output_tokens": usd_per_s * chips / rate * TOKENS_PER_MILLION,
        "watts_per_chip": whole(found.watts_per_chip),
        "chips": chips,
        "batch": whole(batches),
        **{name: whole(degrees[index]) for index, name in enumerate(("tp", "pp", "ep", "dp"))},
    }
    open_to = np.ones(shape, dtype=bool)
    for reason, refused in (
        (NOT_FITTING, whole(found.batch) < whole(batches)),
        ("batch does not fill every group and stage", whole(batches) < whole(layout.dp * layout.pp)),
        ("ttft above the bound", columns["ttft_s"] > (question.max_ttft_s or np.inf)),
        ("tpot above the bound", columns["tpot_s"] > (question.max_tpot_s or np.inf)),
        ("throughput below the bound", rate < (question.min_tokens_per_s or 0.0)),
    ):
        hit = open_to & refused
        if hit.any():
            reasons[reason] += int(hit.sum())
        open_to &= ~refused
    label = {
        "chip": chip.name,
        "kv_precision": precisions.kv,
        "weights_in": tier,
        "speculated_tokens": speculation.tokens if speculation else 0,
    }
    return _Table(label, {name: column[open_to] for name, column in columns.items()})


def _front(tables: Iterable[_Table]) -> tuple[Point, ...]:
    """The non-dominated points of all tables, fastest first."""
    kept = [table for table in tables if len(table.columns["tpot_s"])]
    owner = np.concatenate([np.full(len(table.columns["tpot_s"]), index) for index, table in enumerate(kept)])
    place = np.concatenate([np.arange(len(table.columns["tpot_s"])) for table in kept])
    signs = {"tokens_per_s_per_chip": -1.0}
    costs = np.stack(
        [np.concatenate([table.columns[name] for table in kept]) * signs.get(name, 1.0) for name in OBJECTIVES], axis=1
    )
    chosen = sorted(non_dominated(costs), key=lambda index: float(costs[index, 0]))
    return tuple(_point(kept[int(owner[index])], int(place[index])) for index in chosen)


def non_dominated(costs: Values) -> list[int]:
    """Rows that no other row beats or equals in every column while beating it in one; of equal rows the first."""
    order = np.lexsort(costs.T[::-1])
    front: list[int] = []
    kept = np.empty((0, costs.shape[1]))
    for index in order:
        row = costs[index]
        if not (kept <= row).all(axis=1).any():
            front.append(int(index))
            kept = np.vstack([kept, row])
    return front


def _point(table: _Table, index: int) -> Point:
    values: dict[str, Any] = {name: float(column[index]) for name, column in table.columns.items()}
    for name in ("chips", "batch", "tp", "pp", "ep", "dp"):
        values[name] = round(values[name])
    return Point(**table.label, **values)
