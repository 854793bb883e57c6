#!/usr/bin/env python3
"""One round of `plan_speed.py` with whichever flashstill is imported: processor seconds of pricing and of searching.

Pricing: every configuration that can be built gets time, energy, dollars and fit, whether or not it can run. Searching:
the front and the reasons, for which what cannot run needs no price. Prints one JSON line on stdout.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

MODEL = "qwen3-235b-a22b"
CHIPS = ("h100-sxm", "h200", "b200", "tpu-v5p", "tpu-v6e", "tpu-v7")
MAX_CHIPS = 256
PROMPT, ANSWER = 1024, 256
PRECISIONS = ("published", "fp8")


def seconds_of(work: Callable[[], Any], runs: int) -> tuple[list[float], Any]:
    """Processor seconds of each run after a first one that loads what is read once, and the last result."""
    work()
    seconds, result = [], None
    for _ in range(runs):
        started = time.process_time()
        result = work()
        seconds.append(time.process_time() - started)
    return seconds, result


def space_of(quick: bool) -> tuple[tuple[str, ...], int, tuple[int, ...]]:
    """Chips, most chips, batches."""
    batches = tuple(sorted({round(2 ** (step / 3)) for step in range(60)}))
    return (CHIPS[:2], 16, batches) if quick else (CHIPS, MAX_CHIPS, batches)


def pricing(facts: Any, quick: bool) -> int:
    """Price every configuration of the space; return how many there are."""
    import numpy as np

    from flashstill.arch import load_architecture
    from flashstill.cost import Load
    from flashstill.economics import hourly_price, usd_per_million_tokens
    from flashstill.hardware import chip_from_facts
    from flashstill.plan.deployment import Deployment
    from flashstill.plan.serving_layouts import layouts_of
    from flashstill.plan.setup import conditions_of
    from flashstill.plan.tables import candidates, priced

    names, most, batches = space_of(quick)
    model, count = load_architecture(MODEL), 0
    load = Load(isl=PROMPT, osl=ANSWER, concurrency=1.0)
    chosen = candidates(*layouts_of(model, most), batches)
    for name in names:
        chip, paid = chip_from_facts(facts, name), hourly_price(facts, name)
        tiers = [tier.name for tier in chip.tiers if tier.name in ("memory", "sram")]
        for precision, weights, cache in itertools.product(PRECISIONS, tiers, tiers):
            deployment = Deployment(chip=name, precision=precision, weights_in=weights, kv_in=cache)
            figures = priced(model, conditions_of(facts, model, chip, deployment), chosen, load)
            rate, watts = figures.pace.output_tokens_per_s, figures.pace.watts_per_chip
            usd_per_million_tokens(paid, 1.0, np.asarray(chosen.layout.chips), rate, watts)
            count += figures.room.size
    return count


def searching(facts: Any, quick: bool) -> Any:
    """The search over the same space."""
    from flashstill.plan.scenario import Scenario
    from flashstill.plan.search import search
    from flashstill.plan.space import SearchSpace

    names, most, batches = space_of(quick)
    space = SearchSpace(chips=names, max_chips=most, precisions=PRECISIONS, batches=batches)
    return search(facts, Scenario(model=MODEL, isl=PROMPT, osl=ANSWER), space)


def main() -> None:
    from flashstill.facts import load

    runs, quick = int(sys.argv[1]), sys.argv[2:] == ["--quick"]
    facts = load()
    pricing_s, configurations = seconds_of(lambda: pricing(facts, quick), runs)
    search_s, found = seconds_of(lambda: searching(facts, quick), runs)
    answers = {name: getattr(found, name) for name in ("evaluated", "feasible", "infeasible", "priced")}
    answers["front"] = [dataclasses.asdict(point) for point in found.front]
    print(json.dumps({"pricing_s": pricing_s, "search_s": search_s, "configurations": configurations, **answers}))


if __name__ == "__main__":
    main()
