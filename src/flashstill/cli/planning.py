"""The command that searches for configurations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashstill.cli.completion import complete_chips
from flashstill.cli.documents import asked_facts, json_option, print_infeasible, print_json, understood
from flashstill.cli.drafting import acceptance_options, accepted
from flashstill.cli.emitting import emission_of, emission_options, emitted
from flashstill.cli.fleets import check_question, plan_trace
from flashstill.cli.lists import redundant_numbers, whole, words
from flashstill.cli.options import (
    COUNT,
    SECONDS,
    WORD,
    facts_options,
    model_option,
    price_option,
)
from flashstill.cli.serving_options import serving_options
from flashstill.cli.targets import check_target, plan_quality, target_options
from flashstill.cli.trace_options import TRACE_HELP, reading_options
from flashstill.errors import InfeasiblePlan

if TYPE_CHECKING:
    from flashstill.facts import Facts
    from flashstill.plan.scenario import Scenario
    from flashstill.plan.space import SearchSpace


@click.command()
@model_option(required=False)
@click.option(
    "--chips-from",
    "--chip",
    required=True,
    shell_complete=complete_chips,
    help="Chips to choose from, with commas between.",
)
@click.option(
    "--max-chips", type=COUNT, default=None,
    help="The most chips of one configuration [with --trace: of a replica; default 16, or as many as it needs].",
)  # fmt: skip
@serving_options
@click.option(
    "--draft", default=None, help="Also try drafting by this model, its own 'heads', or 'new-heads' yet to be trained."
)
@click.option("--draft-tokens", default="1,3,5", show_default=True, help="How many tokens are drafted ahead.")
@acceptance_options
@click.option(
    "--redundant-experts", default=None, help="Numbers of redundant experts to try, with commas [default: the fewest]."
)
@click.option("--overlap", type=WORD, default="none", show_default=True, help="none, two-batch, or both with a comma.")
@click.option("--disaggregated", is_flag=True, help="Also try prefill and decoding on pools of their own.")
@click.option(
    "--engine", type=WORD, default=None, help="vllm, sglang, trtllm, none: kernels alone [default: vllm; none on SRAM]."
)
@emission_options
@click.option(
    "--trace", type=click.Path(path_type=Path), default=None, help=f"Size a fleet, by simulation. {TRACE_HELP}"
)
@reading_options
@click.option("--slo", default=None, help='Bounds of the fleet, as "ttft_p95<0.5,tpot_p95<30ms".')
@click.option("--speed", type=float, default=1.0, show_default=True, help="The trace's arrivals so many times as fast.")
@click.option("--window", type=SECONDS, default=None, help="The fleet's replicas may change this often [default: 1 h].")
@click.option("--cold-start", type=SECONDS, default=None, help="Replicas are paid so long before they serve.")
@click.option("--router", type=WORD, default="least-requests", show_default=True, help="The fleet's, as in simulate.")
@target_options
@click.option("--co-located", is_flag=True, help="Of fleets, leave those out in which prefill has its own replicas.")
@price_option
@facts_options
@json_option
def plan(
    model: str | None,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
    **asked: Any,
) -> None:
    """Search chips, layouts, batches, formats, placements and drafts for the Pareto front of configurations."""
    from flashstill import api
    from flashstill.printing import print_notes, print_plan

    chips = (*words(asked["chips_from"]), *words(asked["train_chips"] or ""))
    facts = asked_facts(facts_directories, edits, as_json, on_stderr=asked["emit"] is not None, chips=chips)
    if check_target(model, asked):
        plan_quality(facts, model, {**asked, **_lists(asked)}, as_json)
        return
    assert model is not None
    if check_question(asked):
        lists = {name: words(asked[name]) for name in ("chips_from", "precision")}
        repeated = {"model": model, "facts_directories": facts_directories, "edits": edits}
        plan_trace(facts, {**asked, **lists, **repeated}, as_json)
        return
    emission = emission_of(facts, model, asked)
    if emission is not None:
        asked |= {"engine": emission.engine, "tiers": "memory"}
    scenario, space = _question(facts, model, accepted(asked))
    understood(_understood(scenario, space))
    price = asked["price"]
    try:
        result = api.search(scenario, space, price=price, facts=facts)
    except InfeasiblePlan as error:
        if as_json:
            counts = {"evaluated": sum(error.reasons.values()), "feasible": 0, "infeasible": error.reasons}
            print_infeasible(error, **counts, front=[])
        raise
    launched = None if emission is None else emitted(emission, facts, scenario, space, price, result)
    if as_json:
        print_json(result.as_dict() | ({} if launched is None else {"launch": launched}))
    elif launched is not None:
        print_notes(result.note, on_stderr=True)
        click.echo(launched.get("manifest", launched["command"]))
    else:
        print_plan(result)


def _question(facts: Facts, model: str, asked: dict[str, Any]) -> tuple[Scenario, SearchSpace]:
    from flashstill.plan.scenario import Scenario
    from flashstill.plan.space import BATCHES, SearchSpace, normalised

    drafts = tuple(whole(text, "draft-tokens") for text in words(asked["draft_tokens"]))
    scenario = Scenario(
        model=model,
        isl=asked["isl"],
        osl=asked["osl"],
        burst_share=asked["burst_share"],
        batching_steps=asked["batching_steps"],
        cohort=asked["cohort"],
        cached_ratio=asked["cached_ratio"],
        isl_cv=asked["isl_cv"],
        osl_cv=asked["osl_cv"],
        draft=asked["draft"],
        acceptance=asked["acceptance"],
        acceptance_decay=asked["acceptance_decay"],
        measured_acceptance=asked["measured_acceptance"],
        max_ttft_s=asked["max_ttft"],
        max_tpot_s=asked["max_tpot"],
        min_tokens_per_s=asked["min_throughput"],
    )
    space = SearchSpace(
        chips=tuple(words(asked["chips_from"])),
        max_chips=asked["max_chips"],
        batches=tuple(whole(text, "batch") for text in words(asked["batch"])) if asked["batch"] else BATCHES,
        precisions=tuple(words(asked["precision"])),
        kv_precisions=tuple(words(asked["kv_precision"] or "")) or (None,),
        tiers=tuple(words(asked["tiers"])),
        engine=asked["engine"],
        draft_tokens=drafts,
        redundant_experts=redundant_numbers(asked["redundant_experts"]),
        overlaps=tuple(words(asked["overlap"])),
        disaggregated=asked["disaggregated"],
    )
    return scenario, normalised(facts, space)


def _lists(asked: dict[str, Any]) -> dict[str, list[Any]]:
    """Options with several choices, by the names of the search space."""
    return {
        "batches": [whole(text, "batch") for text in words(asked["batch"] or "")],
        "precisions": words(asked["precision"]),
        "kv_precisions": words(asked["kv_precision"] or ""),
        "tiers": words(asked["tiers"]),
        "overlaps": words(asked["overlap"]),
        "redundant_experts": list(redundant_numbers(asked["redundant_experts"])),
    }


def _understood(scenario: Scenario, space: SearchSpace) -> dict[str, Any]:
    """The parsed options; those with several choices as lists."""
    return {
        "chips_from": space.chips,
        "precision": space.precisions,
        "kv_precision": [kv or "as goes with the weights" for kv in space.kv_precisions],
        "tiers": space.tiers,
        "batch": space.batches,
        "engine": space.engine or "vllm; none on chips that it does not serve",
        "draft_tokens": space.draft_tokens if scenario.draft else [],
        "redundant_experts": ["the fewest" if number is None else number for number in space.redundant_experts],
        "overlap": space.overlaps,
        "disaggregated": space.disaggregated,
    }
