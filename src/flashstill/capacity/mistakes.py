"""Mistakes of a capacity plan, by the key that is wrong: hours outside the horizon, names that nothing has, values that
exclude each other or have no effect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from flashstill.capacity.plan import SHAPES, CapacityPlan, ChipKind, Product, Run
from flashstill.errors import shown, unknown

SHORTEST_HOURS = 1.0 / 3600.0
"""from a run's start to its deadline: shares of a step far below this are no numbers for the solver"""
MOST_VARIABLES = 20_000_000
IDLE = "idle"
WHOLE = 1e-9
_DEFAULTS = {field.name: field.default for field in fields(Product)}
_SEARCHED = ("throughput", "max_ttft_s", "max_tpot_s", "max_chips", "precision")
_WAVE = ("trough_ratio", "peak_hour")
_TRAINED = ("tokens", "mfu", "batch")
Mistakes = Iterator[tuple[str, str]]


def mistakes_of(plan: CapacityPlan) -> Mistakes:
    """(key, what is wrong with it), in the order of the file; nothing for a plan that can be asked."""
    steps = plan.horizon_hours / plan.step_hours
    if abs(steps - round(steps)) > WHOLE * steps or round(steps) < 1:
        yield "horizon_hours", f"is {plan.horizon_hours:g}, which is not a whole number of steps of {plan.step_hours:g}"
    if not plan.products and not plan.trainings:
        yield "products", "is empty, and so is runs; give something to do"
    kinds = [kind.name for kind in plan.chips]
    yield from _repeated("chips", kinds)
    yield from _repeated("products", [product.name for product in plan.products])
    yield from _repeated("runs and distillations", [run.name for run in plan.trainings])
    runs = {run.name for run in plan.trainings}
    for place, product in enumerate(plan.products):  # who has the chips is told by these names alone
        if product.name in runs:
            yield f"products[{place}].name", f"is {product.name!r}, as a run's; give one of them another name"
    if IDLE in {*runs, *(product.name for product in plan.products)}:
        yield "products and runs", f"have the name {IDLE!r}, which is that of chips that do nothing; take another one"
    for place, kind in enumerate(plan.chips):
        yield from _kind_mistakes(plan, kind, f"chips[{place}]")
    for place, product in enumerate(plan.products):
        yield from _product_mistakes(plan, product, f"products[{place}]", kinds)
    tables = [("runs", plan.runs), ("distillations", plan.distillations)]
    for table, place, run in ((name, place, run) for name, runs in tables for place, run in enumerate(runs)):
        yield from _run_mistakes(plan, run, f"{table}[{place}]", kinds)
        if table == "distillations" and not run.teacher:
            yield f"{table}[{place}].teacher", "is missing; name the run that it learns from"
    yield from _circles(plan)
    size = plan.periods * len(plan.chips) * (len(plan.products) + len(plan.trainings))
    if size > MOST_VARIABLES:
        enough = plan.step_hours * size / MOST_VARIABLES
        yield (
            "step_hours",
            f"makes {size:,} chip-hour variables, above {MOST_VARIABLES:,}; take steps of about {enough:.2g} hours or"
            " more",
        )


def _repeated(key: str, names: Sequence[str]) -> Mistakes:
    for name in names:
        if names.count(name) > 1:
            yield key, f"has the name {name!r} twice"


def _inside(plan: CapacityPlan, key: str, hour: float) -> Mistakes:
    if hour > plan.horizon_hours:
        yield key, f"is hour {hour:g}, after the horizon's end at hour {plan.horizon_hours:g}"


def _kind_mistakes(plan: CapacityPlan, kind: ChipKind, key: str) -> Mistakes:
    if kind.usd_per_hour is not None and kind.usd_purchase is not None:
        yield f"{key}.usd_purchase", "stands beside usd_per_hour; give one of them"
    if kind.failure_share and not plan.nines:
        yield f"{key}.failure_share", "needs the plan's nines: how sure it must be that enough chips work"
    for place, purchase in enumerate(kind.purchases):
        yield from _inside(plan, f"{key}.purchases[{place}].at", purchase.at)
    for place, window in enumerate(kind.maintenance):
        yield from _inside(plan, f"{key}.maintenance[{place}].end", window.end)
        if window.end <= window.start:
            yield f"{key}.maintenance[{place}].end", f"is hour {window.end:g}, not after its start at {window.start:g}"
        if bool(window.chips) == bool(window.share):
            yield f"{key}.maintenance[{place}]", "needs either chips or share"


def _product_mistakes(plan: CapacityPlan, product: Product, key: str, kinds: Sequence[str]) -> Mistakes:
    if (product.peak_requests_per_s is None) == (not product.demand_csv):
        yield f"{key}.peak_requests_per_s", "or demand_csv must be given, and not both"
    if isinstance(product.shape, str) and product.shape not in SHAPES:
        yield f"{key}.shape", f"is an {unknown('shape', product.shape, SHAPES)}; or give 24 or 168 numbers"
    if not isinstance(product.shape, str):
        if len(product.shape) not in (24, 168):
            yield f"{key}.shape", f"has {len(product.shape)} numbers, not 24 (a day) or 168 (a week)"
        bad = next((value for value in product.shape if not (math.isfinite(value) and 0.0 <= value <= 1.0)), None)
        if bad is not None:
            yield f"{key}.shape", f"holds {bad:g}; each number is a share of the peak, between 0 and 1"
    yield from _without_effect(product, key)
    if not product.model and product.tokens_per_s_per_chip is None:
        yield f"{key}.model", "is missing; or give tokens_per_s_per_chip"
    if product.tokens_per_s_per_chip is not None and not product.tokens_per_s_per_chip:
        yield f"{key}.tokens_per_s_per_chip", "is empty; leave it out to have it found by a search"
    yield from _known_kinds(f"{key}.tokens_per_s_per_chip", product.tokens_per_s_per_chip or {}, kinds)
    yield from _known_kinds(f"{key}.kinds", product.kinds, kinds)
    if product.kinds and product.tokens_per_s_per_chip is not None:
        yield f"{key}.kinds", "stands beside tokens_per_s_per_chip, whose kinds serve the product; give one of them"
    hours = [generation.at for generation in product.generations]
    for place, at in enumerate(hours):
        yield from _inside(plan, f"{key}.generations[{place}].at", at)
        if place and at <= hours[place - 1]:
            yield f"{key}.generations[{place}].at", f"is hour {at:g}, not after the generation before it; sort them"
        if abs(at / plan.step_hours - round(at / plan.step_hours)) > WHOLE * max(at, 1.0):
            yield (
                f"{key}.generations[{place}].at",
                f"is hour {at:g}, not a whole number of steps of {plan.step_hours:g}",
            )


def _without_effect(product: Product, key: str) -> Mistakes:
    """Keys that say what nothing asks for, beside others."""
    no_wave = "" if product.shape == "day" else 'without shape = "day"'
    for beside, names in (
        ("beside tokens_per_s_per_chip" if product.tokens_per_s_per_chip is not None else "", _SEARCHED),
        ("beside demand_csv" if product.demand_csv else no_wave, _WAVE),
    ):
        for name in names if beside else ():
            if getattr(product, name) != _DEFAULTS[name]:
                yield f"{key}.{name}", f"has no effect {beside}; leave it out"


def _run_mistakes(plan: CapacityPlan, run: Run, key: str, kinds: Sequence[str]) -> Mistakes:
    if run.deadline <= run.start:
        yield f"{key}.deadline", f"is hour {run.deadline:g}, not after its start at hour {run.start:g}"
    elif run.deadline - run.start < SHORTEST_HOURS:
        yield f"{key}.deadline", f"is less than a second after its start at hour {run.start:g}"
    yield from _inside(plan, f"{key}.deadline", run.deadline)
    if (run.chip_hours is None) == (not run.model):
        yield f"{key}.chip_hours", "or model with tokens must be given, and not both"
    if run.model and run.tokens is None:
        yield f"{key}.tokens", "is missing: how much of its model's training is to be done"
    if run.model and run.mfu is None and run.batch is None:
        yield f"{key}.mfu", "is missing; or give batch, the sequences of a step, to have it predicted"
    if run.chip_hours is not None and (not run.chip_hours or min(run.chip_hours.values()) <= 0.0):
        yield f"{key}.chip_hours", "must hold the chip-hours of at least one kind, all positive"
    for beside, names in (("chip_hours", _TRAINED), ("mfu", ("batch",))):
        for name in names if getattr(run, beside) is not None else ():
            if getattr(run, name) is not None:
                yield f"{key}.{name}", f"has no effect beside {beside}; leave it out"
    if run.chip_hours is not None and run.kinds:
        yield f"{key}.kinds", "stands beside chip_hours, which names the kinds; give one of them"
    yield from _known_kinds(f"{key}.chip_hours", run.chip_hours or {}, kinds)
    yield from _known_kinds(f"{key}.kinds", run.kinds, kinds)
    yield from _known_kinds(f"{key}.gang", run.gang or {}, kinds)
    allowed = run.chip_hours or run.kinds or kinds
    for kind, sizes in (run.gang or {}).items():
        if kind not in allowed:
            yield f"{key}.gang.{kind}", "is of a kind that the run cannot use"
        if len(sizes) != 2 or not 1 <= sizes[0] <= sizes[1]:
            yield f"{key}.gang.{kind}", f"is {shown(list(sizes))}, not the fewest and the most chips, as [1024, 2048]"
    if run.restart_hours and (run.gang is None or set(run.gang) != set(allowed)):
        yield f"{key}.restart_hours", "needs the gang of every kind that the run may use: what restarts is a gang"


def _known_kinds(key: str, names: Mapping[str, Any] | Sequence[str], kinds: Sequence[str]) -> Mistakes:
    for name in names:
        if name not in kinds:
            yield key, f"names an {unknown('chip kind', name, kinds)}"


def _circles(plan: CapacityPlan) -> Mistakes:
    teachers = {run.name: run.teacher for run in plan.trainings}
    for run in plan.trainings:
        if run.teacher and run.teacher not in teachers:
            yield f"the teacher of {run.name!r}", f"is an {unknown('run', run.teacher, teachers)}"
        passed, at = [run.name], run.teacher
        while at in teachers:
            if at in passed:
                yield f"the teacher of {run.name!r}", "learns from it in turn; one run must come first"
                return
            passed.append(at)
            at = teachers[at]
