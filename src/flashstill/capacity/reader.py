"""Reads a capacity plan from TOML or plain tables; every mistake is one sentence that names its key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from flashstill.bounded import check_regular
from flashstill.capacity.mistakes import mistakes_of
from flashstill.capacity.plan import CapacityPlan, Product
from flashstill.checked import built, toml_tree
from flashstill.errors import BadInput, shortened
from flashstill.units import SECONDS_PER_HOUR

HOUR_KEYS = ("at", "start", "end", "deadline")


def read_plan(path: Path) -> CapacityPlan:
    """The plan of a TOML file; BadInput names the file and the key of a mistake."""
    check_regular(path)
    return plan_of(toml_tree(path), shortened(str(path), 200), path.parent)


def plan_of(tree: Mapping[str, Any], where: str = "the plan", base: Path | None = None) -> CapacityPlan:
    """The plan of nested tables, such as a TOML file holds. base: the folder that demand_csv is relative to."""
    plan = built(CapacityPlan, _with_hours(tree, where), where)
    for key, problem in mistakes_of(plan):
        raise BadInput(f"{where}: {key} {problem}")
    return plan if base is None else _with_paths(plan, base)


def checked(plan: CapacityPlan) -> CapacityPlan:
    """A plan that was made in Python, checked as one from a file is."""
    return plan_of(json.loads(json.dumps(asdict(plan))))


def _with_hours(tree: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The tables with every date in place of an hour turned into hours since `start`."""
    begin = _written(tree.get("start", ""))
    origin = _date(begin, f"{where}: start") if isinstance(begin, str) and begin else None

    def walked(value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            return {key: hour(entry, f"{path}.{key}", str(key)) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [walked(entry, f"{path}[{place}]") for place, entry in enumerate(value)]
        return value

    def hour(value: Any, path: str, key: str) -> Any:
        text = _written(value)
        if key not in HOUR_KEYS or not isinstance(text, str):
            return walked(value, path)
        if origin is None:
            raise BadInput(f"{where}: {path} is the date {shortened(text)!r}; give the plan's start as a date too")
        moment = _date(text, f"{where}: {path}")
        if moment.tzinfo is not None and origin.tzinfo is None:
            raise BadInput(f"{where}: {path} is {shortened(text)!r}, with a time zone, but start has none; give it one")
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=origin.tzinfo)
        return (moment - origin).total_seconds() / SECONDS_PER_HOUR

    return {key: begin if key == "start" else walked(value, str(key)) for key, value in tree.items()}


def _written(value: Any) -> Any:
    """A date of TOML as text; anything else as it is."""
    return value.isoformat() if isinstance(value, date) else value


def _date(text: str, where: str) -> datetime:
    """A moment, in the time zone that it has or none; dates without one are in that of `start`."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{where} is {shortened(text)!r}, not a date; write it as 2026-03-01 or 2026-03-01T06:00"
        ) from None


def _with_paths(plan: CapacityPlan, base: Path) -> CapacityPlan:
    def located(product: Product) -> Product:
        return replace(product, demand_csv=str(base / product.demand_csv)) if product.demand_csv else product

    products = tuple(map(located, plan.products))
    return replace(plan, products=products)
