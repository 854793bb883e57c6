"""The calibration rows of kernels and collectives, fitted to the anchors and written as facts."""

from __future__ import annotations

import datetime
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from flashstill.errors import BadInput
from flashstill.facts import Fact, Facts, load
from flashstill.facts.table import to_csv
from flashstill.files import write_text
from flashstill.hardware import Chip, chip_from_facts
from flashstill.hardware.calibration import COLLECTIVES, KINDS
from flashstill.validation.anchors.energy import token_served
from flashstill.validation.anchors.kernels import kernel_sets
from flashstill.validation.anchors.serving import Served, served
from flashstill.validation.anchors.tables import KernelSet
from flashstill.validation.calibration.energy import ENERGY_PRIOR, energy_row, fit_energy
from flashstill.validation.calibration.fit import Fit
from flashstill.validation.calibration.kernels import COLLECTIVE_START, ONE_SHOT_START, fit_collective, fit_kernel
from flashstill.validation.calibration.software import fit_software, software_rows


def calibrate(anchors: Path, out: Path) -> None:
    """Fit everything and write `out`; progress on standard error."""
    if not anchors.is_dir():
        raise BadInput(f"there is no anchors directory at {anchors}")
    facts = load()
    chips: dict[str, Chip] = {}
    by_kind: dict[tuple[str, str], list[tuple[Chip, KernelSet]]] = defaultdict(list)
    for item in kernel_sets(facts, anchors):
        chip = chips.setdefault(item.chip, chip_from_facts(facts, item.chip))
        by_kind[item.kind, item.precision].append((chip, item))
    rows: list[Fact] = []
    for kind in KINDS:
        for precision in ("bf16", "fp8", "fp8-block"):
            items = by_kind.get((kind, precision))
            if items:
                rows += _rows(items, kind, precision, fit_kernel(kind, items))
    for kind in COLLECTIVES:
        items = by_kind.get((kind, ""), [])
        for engine in sorted({item.engine for _, item in items}):
            chosen = [(chip, item) for chip, item in items if item.engine == engine]
            start = ONE_SHOT_START if engine else COLLECTIVE_START
            rows += _rows(chosen, kind, engine, fit_collective(chosen, start))
    rows += _engines(facts, rows, anchors)
    write_text(out, to_csv(rows))


def _engines(facts: Facts, kernels: list[Fact], anchors: Path) -> list[Fact]:
    """What the engines add to the kernels as just fitted."""
    table = dict(facts.rows)
    renewed = {(fact.name, fact.quantity) for fact in kernels}
    table.update(dict.fromkeys(renewed, ()))
    for fact in kernels:
        table[fact.name, fact.quantity] = (*table[fact.name, fact.quantity], fact)
    found = []
    measured = [*served(anchors), *token_served(anchors)]
    for engine, (fit, software) in fit_software(Facts(rows=table, machines=facts.machines), measured).items():
        print(f"engine {engine}: {fit.n} rows, median error {fit.median_absolute_error:.1%}", file=sys.stderr)
        found += software_rows(engine, fit, software)
    for fact in found:
        table[fact.name, fact.quantity] = (fact,)
    energy = fit_energy(Facts(rows=table, machines=facts.machines), anchors)
    print(f"energy: {energy.n} rows, median error {energy.median_absolute_error:.1%}", file=sys.stderr)
    source = f"fit of {energy.n} published board powers and energies per token on H100 and H200 (scripts/calibrate)"
    for name, value in energy.values.items():
        factor = math.exp(energy.spread[name])
        held = "held by a prior from published system figures" if name in ENERGY_PRIOR else ""
        low, high = _rounded(value / factor), _rounded(value * factor)
        found.append(energy_row(name, _rounded(value), low, high, source, held))
    return found + _measured_chips(facts, served(anchors))


def _measured_chips(facts: Facts, rows: Sequence[Served]) -> list[Fact]:
    """How many serving measurements each chip brought, which is what its band rests on."""
    counts = Counter(facts.machine(row.case.deployment.chip).name for row in rows)
    return [
        Fact(
            name=chip,
            quantity="serving_measurements",
            value=float(count),
            low=float(count),
            high=float(count),
            unit="1",
            per="chip",
            condition="",
            kind="measured",
            source="count of published serving measurements behind the engine rows (scripts/calibrate)",
            as_of=datetime.date.today().isoformat()[:7],
            note="",
        )
        for chip, count in sorted(counts.items())
    ]


def _rows(items: Iterable[tuple[Chip, KernelSet]], kind: str, condition: str, fit: Fit) -> list[Fact]:
    chips = sorted({chip.name for chip, _ in items})
    print(f"{kind} {condition}: {fit.n} rows, median error {fit.median_absolute_error:.1%}", file=sys.stderr)
    return [
        Fact(
            name="gpu",
            quantity=f"{kind}.{name}",
            value=_rounded(value),
            low=_rounded(value * math.exp(-fit.spread[name])),
            high=_rounded(value * math.exp(fit.spread[name])),
            unit="s" if name.endswith("_s") else "1",
            per="class",
            condition=condition,
            kind="measured",
            source=f"fit of {fit.n} published kernel timings on {', '.join(chips)} (scripts/calibrate)",
            as_of=datetime.date.today().isoformat()[:7],
            note=f"median absolute error of the fit {fit.median_absolute_error:.1%}",
        )
        for name, value in fit.values.items()
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
