"""The answer about hosting a model, as the document that `economics --json` prints."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from flashstill.economics.self_hosting import replicas_for
from flashstill.economics.token_kinds import KINDS
from flashstill.plan.hosted import Corner, Hosted
from flashstill.plan.hosting import most_chips
from flashstill.plan.hosting_parts import assumptions_of, footprint_of, keeping_of, power_of, steps_of
from flashstill.plan.hosting_ranges import ranges_of

SELF, API, DEPENDS = "self-host", "api", "depends"
POINTS, DECADES = 25, 2.0
"""of a curve over volumes: number, and powers of ten on either side"""
NOTES = (
    "cached tokens are found in the memory of the chips that decode: they cost the attention to them, and their room is"
    " paid by the requests that run; `keeping` is what it costs to keep them until then",
    "staff, software, spare parts, taxes and the first months without traffic are not in it",
)


def document_of(found: Hosted, grid: str) -> dict[str, Any]:
    """The answer. Dollars, seconds, joules; spans are {low, value, high} over the corners of the ranges."""
    middle, asked = found.middle, found.asked
    requests, load = asked.requests_per_day, found.utilisation_ratio
    served = middle.replica.requests_per_day * load if requests is None else requests
    per_million = [corner.usd_per_million(requests, load) for corner in found.corners]
    kwh = middle.replica.kwh(served, middle.replicas or 1)
    document: dict[str, Any] = {
        "fits": True,
        "model": found.model.name,
        "chip": found.chip,
        "answer": answer_of(found),
        "configuration": asdict(middle.configuration),
        "usd_per_chip_hour": found.chip_hour.usd_per_hour,
        "price_basis": found.chip_hour.basis,
        "utilisation_ratio": load,
        "requests_per_day": requests,
        "request": {"isl": asked.isl, "osl": asked.osl, "max_ttft_s": asked.max_ttft_s, "max_tpot_s": asked.max_tpot_s},
        "replicas": middle.replicas,
        "chips": (middle.replicas or 1) * middle.replica.chips,
        "usd_per_million": {kind: _span(each[kind] for each in per_million) for kind in KINDS},
        "usd_per_request": _span(corner.usd_per_request(requests, load) for corner in found.corners),
        "usd_per_day": _span(
            corner.usd_per_request(requests, load) * _volume(found, corner) for corner in found.corners
        ),
        "api": _api(found),
        "break_even": _break_even(found),
        "corners": [_corner(found, corner) for corner in found.corners],
        "steps": steps_of(found),
        **ranges_of(found),
        "power": power_of(found),
        "keeping": keeping_of(found),
        "footprint": footprint_of(found, grid, kwh, served),
        "curve": _curve(found),
        "assumptions": assumptions_of(found, grid),
        "notes": [*NOTES, f"replicas of up to {most_chips(asked, middle.configuration.chips)} chips were tried"],
    }
    return document


def answer_of(found: Hosted) -> str | None:
    """Which is cheaper at the volume asked for, at every corner; without a volume, whether that depends on it."""
    if found.api is None:
        return None
    if found.asked.requests_per_day is None:
        return (
            API if all(corner.break_even and corner.break_even.first is None for corner in found.corners) else DEPENDS
        )
    cheaper = {_costs_less(found, corner) for corner in found.corners}
    return DEPENDS if len(cheaper) > 1 else SELF if True in cheaper else API


def _costs_less(found: Hosted, corner: Corner) -> bool:
    own = corner.usd_per_request(found.asked.requests_per_day, found.utilisation_ratio)
    return corner.api_usd is not None and own < corner.api_usd


def _volume(found: Hosted, corner: Corner) -> float:
    """Requests a day: those asked for, or what one replica is given."""
    asked = found.asked.requests_per_day
    return corner.replica.requests_per_day * found.utilisation_ratio if asked is None else asked


def _span(values: Iterable[float | None]) -> dict[str, float | None]:
    """The first value, and the least and the largest; the end that is None (never, or no such tokens) is None."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return {
        "low": min(known, default=None),
        "value": listed[0],
        "high": None if len(known) < len(listed) else max(known, default=None),
    }


def _api(found: Hosted) -> dict[str, Any] | None:
    if found.api is None:
        return None
    requests = found.asked.requests_per_day
    per_request = [corner.api_usd for corner in found.corners]
    return {
        "usd_per_million": {kind: getattr(found.api, kind) for kind in KINDS},
        "source": found.api.source,
        "as_of": found.api.as_of,
        "usd_per_request": _span(per_request),
        "usd_per_day": None if requests is None else _span((each or 0.0) * requests for each in per_request),
    }


def _break_even(found: Hosted) -> dict[str, Any] | None:
    """Volumes from which self-hosting is cheaper, tokens without thinking; a high end of None: never somewhere."""
    if found.api is None:
        return None
    first = [corner.break_even.first if corner.break_even else None for corner in found.corners]
    always = [corner.break_even.always if corner.break_even else None for corner in found.corners]
    return {
        "requests_per_day": _span(first),
        "tokens_per_day": _span(None if at is None else at * (found.asked.isl + found.asked.osl) for at in first),
        "always_requests_per_day": _span(always),
    }


def _corner(found: Hosted, corner: Corner) -> dict[str, Any]:
    requests, chosen = found.asked.requests_per_day, corner.configuration
    break_even = corner.break_even
    return {
        "cached_ratio": corner.cached_ratio,
        "thinking_ratio": corner.thinking_ratio,
        "replicas": corner.replicas,
        "chips_of_a_replica": corner.replica.chips,
        "batch": chosen.batch,
        "tpot_s": chosen.tpot_s,
        "ttft_s": chosen.ttft_s,
        "requests_per_day_of_a_replica": corner.replica.requests_per_day,
        "usd_per_request": corner.usd_per_request(requests, found.utilisation_ratio),
        **{
            f"{kind}_usd_per_million_tokens": dollars
            for kind, dollars in corner.usd_per_million(requests, found.utilisation_ratio).items()
        },
        "api_usd_per_request": corner.api_usd,
        "break_even_requests_per_day": break_even.first if break_even else None,
        "always_requests_per_day": break_even.always if break_even else None,
    }


def _curve(found: Hosted) -> list[dict[str, Any]]:
    """Dollars a day of both ways over volumes around the one asked for and the break-even."""
    middle, load = found.middle, found.utilisation_ratio
    first = middle.break_even.first if middle.break_even else None
    around = [volume for volume in (found.asked.requests_per_day, first) if volume]
    around = around or [middle.replica.requests_per_day * load]
    ends = math.log10(min(around)) - DECADES, math.log10(max(around)) + DECADES
    rows = []
    for volume in np.logspace(*ends, POINTS).tolist():
        own = [_own_usd(found, corner, volume) for corner in found.corners]
        row: dict[str, Any] = {"requests_per_day": volume, "self_usd_per_day": _span(own)}
        if found.api is not None:
            row["api_usd_per_day"] = _span((corner.api_usd or 0.0) * volume for corner in found.corners)
        rows.append(row)
    return rows


def _own_usd(found: Hosted, corner: Corner, volume: float) -> float:
    count = replicas_for(volume, corner.replica, found.utilisation_ratio, found.asked.least_replicas)
    return corner.replica.usd(volume, count)
