"""Output tokens a second of a chip, by kind, product and generation; chip-hours of a training run, by kind.

given       tokens_per_s_per_chip of the plan, for all generations
plan        the most tokens/s a chip on the front of `plan` that keeps the product's latency bounds
simulate    requests/s at the knee of that configuration (with bounds: where a bound breaks, if sooner) x output
            tokens / chips

chip-hours  given, or model FLOPs of all tokens / (MFU x peak FLOP/s x 3600), or those of the fastest layout
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from flashstill.arch import Architecture, load_architecture
from flashstill.capacity.curves import Values
from flashstill.capacity.plan import CapacityPlan, ChipKind, Product, Run
from flashstill.errors import BadInput, InfeasiblePlan, MissingFact
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import Configuration, SearchSpace
from flashstill.plan.train import predict_training
from flashstill.plan.train_layouts import MOST_CHIPS, TrainingDeployment
from flashstill.plan.training_answer import TrainingScenario
from flashstill.units import SECONDS_PER_HOUR
from flashstill.workload.training import model_flops

TRAINED_IN = "bf16"
PERCENTILE = 95.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """What a request of one generation of a product asks for."""

    model: str
    input_tokens: int
    output_tokens: int


def lengths_of(product: Product) -> tuple[Lengths, ...]:
    """The lengths of each generation, the first included; factors multiply the first generation's tokens."""
    first = Lengths(model=product.model, input_tokens=product.input_tokens, output_tokens=product.output_tokens)
    later: list[Lengths] = []
    for each in product.generations:
        model = each.model or (later[-1].model if later else first.model)
        inputs, outputs = first.input_tokens * each.input_tokens_factor, first.output_tokens * each.output_tokens_factor
        later.append(Lengths(model=model, input_tokens=max(round(inputs), 1), output_tokens=max(round(outputs), 1)))
    return (first, *later)


def named_model(name: str, key: str) -> Architecture:
    """A model by name or path; BadInput names the key of one that is not known."""
    try:
        return load_architecture(name)
    except BadInput as error:
        raise BadInput(f"{key}: {error}") from error


def check_models(product: Product, key: str) -> None:
    """BadInput names the key of a model that is not known, also where nothing is priced with it."""
    models = {f"{key}.model": product.model}
    models |= {f"{key}.generations[{number}].model": each.model for number, each in enumerate(product.generations)}
    for where, name in models.items():
        if not name:
            continue
        try:
            named_model(name, where)
        except BadInput as error:
            if product.tokens_per_s_per_chip is None:
                raise
            raise BadInput(f"{error}; or leave it out, as tokens_per_s_per_chip is given") from error


def serving_rates(facts: Facts, plan: CapacityPlan, product: Product, notes: list[str]) -> Values:
    """Output tokens/s of a chip [K, G] at each kind and generation; 0 where a kind cannot serve the product.

    Raises InfeasiblePlan if no kind keeps its bounds.  notes: gets a line for what was found or left out.
    """
    generations = lengths_of(product)
    rates = np.zeros((len(plan.chips), len(generations)))
    if product.tokens_per_s_per_chip is not None:
        for place, kind in enumerate(plan.chips):
            rates[place] = product.tokens_per_s_per_chip.get(kind.name, 0.0)
        if len(generations) > 1:
            notes.append(f"{product.name}: tokens/s of a chip as given, for all generations")
        return rates
    refused: dict[str, int] = {}
    for place, kind in enumerate(plan.chips):
        if product.kinds and kind.name not in product.kinds:
            continue
        for number, lengths in enumerate(generations):
            try:
                rates[place, number] = _found(facts, kind, product, lengths, notes)
            except InfeasiblePlan as error:
                notes.append(f"{product.name}: not served on {kind.name}: {error}")
                for reason, count in (error.reasons or {str(error): 1}).items():
                    refused[f"{kind.name}: {reason}"] = refused.get(f"{kind.name}: {reason}", 0) + count
    for number in range(len(generations)):
        if not rates[:, number].any():
            which = f" of generation {number + 1}" if number else ""
            raise InfeasiblePlan(f"no chip kind of the plan serves {product.name!r}{which} within its bounds", refused)
    return rates


def _found(facts: Facts, kind: ChipKind, product: Product, lengths: Lengths, notes: list[str]) -> float:
    scenario = Scenario(
        model=lengths.model, isl=lengths.input_tokens, osl=lengths.output_tokens, burst_share=0.0,
        max_ttft_s=product.max_ttft_s, max_tpot_s=product.max_tpot_s,
    )  # fmt: skip
    name = kind.chip or kind.name
    space = SearchSpace(chips=(name,), max_chips=product.max_chips, precisions=(product.precision,))
    result = search(facts, scenario, space)
    best = max(result.front, key=lambda each: each.tokens_per_s_per_chip)
    rate = best.tokens_per_s_per_chip
    if product.throughput == "simulate":
        rate = _knee(facts, product, lengths, best)
    notes.append(
        f"{product.name} on {kind.name}: {rate:,.0f} output tokens/s a chip at {lengths.input_tokens:,} tokens in and"
        f" {lengths.output_tokens:,} out, {best.chips} chips a replica, batch {best.batch} ({product.throughput})"
    )
    return float(rate)


def _knee(facts: Facts, product: Product, lengths: Lengths, best: Configuration) -> float:
    """Output tokens/s of a chip at the knee of the configuration, or where its bounds break, if sooner."""
    from flashstill.simulate.knee import knee
    from flashstill.simulate.policy import Policy
    from flashstill.simulate.traffic import Traffic

    names = {field.name for field in fields(Deployment)}
    given = {name: getattr(best, name) for name in names if hasattr(best, name)}
    layout = {name: value for name, value in given.items() if not (name.startswith("prefill_") and value == 0)}
    found = knee(
        facts, lengths.model, Deployment(**{**layout, "engine": best.engine or None}),
        Traffic(rate=1.0, isl=lengths.input_tokens, osl=lengths.output_tokens),
        Policy(max_ttft_s=product.max_ttft_s, max_tpot_s=product.max_tpot_s), 0, PERCENTILE,
    )  # fmt: skip
    rate = found.rate if found.bounds is None else min(found.rate, found.bounds.rate)
    if rate <= 0.0:
        raise InfeasiblePlan(f"the latency bounds of {product.name!r} break at any load in the simulation")
    return rate * lengths.output_tokens / best.chips


def run_chip_hours(facts: Facts, plan: CapacityPlan, run: Run, key: str, notes: list[str]) -> dict[str, float]:
    """Chip-hours that all of a run takes on each kind that it may use."""
    if run.chip_hours is not None:
        return dict(run.chip_hours)
    model = named_model(run.model, f"{key}.model")
    by_name = {kind.name: kind for kind in plan.chips}
    found: dict[str, float] = {}
    for name in run.kinds or by_name:
        try:
            found[name] = _chip_hours(facts, model, run, by_name[name], key)
        except InfeasiblePlan as error:
            notes.append(f"{run.name}: not trained on {name}: {error}")
            continue
        notes.append(f"{run.name} on {name}: {found[name]:,.0f} chip-hours")
    if not found:
        raise InfeasiblePlan(f"{key}: no chip kind of the plan can train {run.model!r}", {"no layout fits": 1})
    return found


def _chip_hours(facts: Facts, model: Architecture, run: Run, kind: ChipKind, key: str) -> float:
    name, tokens = kind.chip or kind.name, run.tokens or 0
    if run.mfu is not None:
        chip = chip_from_facts(facts, name)
        try:
            peak = chip.flops_per_s[chip.precision(TRAINED_IN)]
        except MissingFact as error:
            raise InfeasiblePlan(f"{name} has no {TRAINED_IN}", {f"no {TRAINED_IN}": 1}) from error
        flops = float(model_flops(model, 1, run.length)) * tokens / run.length
        return flops / (run.mfu * peak) / SECONDS_PER_HOUR
    chips = _layout_chips(run, kind)
    scenario = TrainingScenario(model=model, length=run.length, batch=run.batch or 0, tokens=tokens)
    while True:
        try:
            answer = predict_training(facts, scenario, TrainingDeployment(chip=name, chips=chips))
        except InfeasiblePlan:
            if chips == 1:
                raise
            chips //= 2
            continue
        if answer.run is None:
            raise BadInput(f"{key}.tokens is missing")
        return answer.run.chip_hours


def _layout_chips(run: Run, kind: ChipKind) -> int:
    """The largest power of two of chips that the gang may have: what a layout is predicted for."""
    most = (run.gang or {}).get(kind.name, (1, kind.count + sum(each.count for each in kind.purchases)))[1]
    return 1 << max(min(int(most), MOST_CHIPS).bit_length() - 1, 0)
