"""The command `codesign`: which number of a chip buys most, with the deployment chosen anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from flashstill.cli.chip_search import run_search, search_options
from flashstill.cli.completion import complete_chips, complete_models
from flashstill.cli.documents import asked_facts, json_option, print_infeasible
from flashstill.cli.lists import redundant_numbers, whole, words
from flashstill.cli.options import COUNT, WORD, facts_options, price_option
from flashstill.cli.paging import give, page_option
from flashstill.cli.serving_options import serving_options
from flashstill.errors import InfeasiblePlan, printable
from flashstill.units import show

_OBJECTIVES = ("usd", "joules", "seconds")
_NEGLIGIBLE = 5e-4
"""elasticities that are printed as 0"""


@click.command()
@click.option(
    "--model", required=True, shell_complete=complete_models,
    help="Known names, or paths of a config.json or model directory, with commas between.",
)  # fmt: skip
@click.option(
    "--chip", default="all", show_default=True, shell_complete=complete_chips,
    help="Chips with commas between, or all that run any model.",
)  # fmt: skip
@click.option("--max-chips", type=COUNT, default=16, show_default=True, help="The most chips of one configuration.")
@serving_options
@click.option(
    "--redundant-experts", default=None, help="Numbers of redundant experts to try, with commas [default: the fewest]."
)
@click.option("--overlap", type=WORD, default="none", show_default=True, help="none, two-batch, or both with a comma.")
@click.option(
    "--engine", type=WORD, default=None, help="vllm, sglang, trtllm, none: kernels alone [default: vllm; none on SRAM]."
)
@click.option(
    "--doubling/--no-doubling", default=None,
    help="What twice each number buys, and where the bound moves [default: for one model on one chip].",
)  # fmt: skip
@search_options
@price_option
@facts_options
@page_option
@json_option
def codesign(
    model: str,
    chip: str,
    batch: str | None,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Which number of a chip buys most: d ln(cost) / d ln(number); with --search: which chip to build."""
    found = run_search(words(model), facts_directories, edits, out, as_json, asked)
    if found:
        return
    from flashstill.plan.space import BATCHES
    from flashstill.what_ifs import codesign as answer_codesign

    facts = asked_facts(facts_directories, edits, as_json, chips=words(chip))
    try:
        answer = answer_codesign(
            model=words(model),
            chip=words(chip),
            batches=tuple(whole(text, "batch") for text in words(batch)) if batch else BATCHES,
            max_ttft_s=asked.pop("max_ttft"),
            max_tpot_s=asked.pop("max_tpot"),
            min_tokens_per_s=asked.pop("min_throughput"),
            precisions=words(asked.pop("precision")),
            kv_precisions=words(asked.pop("kv_precision") or "") or (None,),
            tiers=words(asked.pop("tiers")),
            overlaps=words(asked.pop("overlap")),
            redundant_experts=redundant_numbers(asked.pop("redundant_experts")),
            facts=facts,
            **asked,
        )
    except InfeasiblePlan as error:
        if as_json:
            print_infeasible(error, elasticities={}, binding={}, doubling={}, pairs=[])
        raise
    document = answer.as_dict()
    give(document, out, as_json, print_codesign)


def print_codesign(document: Mapping[str, Any]) -> None:
    """The answer on one screen: optima, elasticities by size, what binds and what doublings buy."""
    from flashstill.printing import print_notes, print_table

    pairs = document["pairs"]
    if len(pairs) == 1:
        _print_optima(pairs[0])
    else:
        click.echo(f"mean over {len(pairs)} pairs of model and chip")
    elasticities, doubling = document["elasticities"], document["doubling"]
    rows = [
        ["number of the chip", "dollars", "joules", "seconds", *(["doubled: dollars", "seconds"] if doubling else [])]
    ]
    quiet = []
    for name in sorted(elasticities, key=lambda name: -_size(elasticities[name])):
        of = elasticities[name]
        if _size(of) < _NEGLIGIBLE and not any(_moves(doubling.get(name, {}).get(key)) for key in ("usd", "seconds")):
            quiet.append(name)
            continue
        gains = [_percent(doubling.get(name, {}).get(key)) for key in ("usd", "seconds")] if doubling else []
        rows.append([name, *(_signed(of[key]) for key in _OBJECTIVES), *gains])
    print_table(rows)
    if quiet:
        click.echo(f"0 on all three: {', '.join(quiet)}")
    for objective, one in document["binding"].items():
        click.echo(f"{_WORDS[objective]}: {_binding(one)}")
    print_notes(document["notes"])


_WORDS = {"usd": "dollars", "joules": "joules", "seconds": "seconds"}


def _print_optima(pair: Mapping[str, Any]) -> None:
    click.echo(f"{printable(pair['model'])} on {pair['chip']}, the best configuration for each cost:")
    for objective, one in pair["optima"].items():
        amount = (
            f"${one['cost']:.4g} per million tokens"
            if objective == "usd"
            else f"{show(one['cost'], 'J' if objective == 'joules' else 's')} per token"
        )
        click.echo(
            f"  {_WORDS[objective]:<8} {amount} on {one['chips']} chip{'s' if one['chips'] > 1 else ''}"
            f" (tp {one['tp']} pp {one['pp']} ep {one['ep']} dp {one['dp']}), batch {one['batch']}, {one['weights_in']}"
        )


def _binding(one: Mapping[str, Any]) -> str:
    text = f"{one['parameter']} binds: 1 % better saves {one['gain']:.2f} %"
    if one["moves_at"] is not None:
        return f"{text}; from {one['moves_at']:.3g} times the number {one['moves_to']} does"
    return f"{text}; none other does up to 16 times better" if one["followed"] else text


def _size(of: Mapping[str, float | None]) -> float:
    return max((abs(value) for value in of.values() if value is not None), default=0.0)


def _moves(ratio: float | None) -> bool:
    return ratio is not None and abs(ratio - 1.0) >= _NEGLIGIBLE


def _signed(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if abs(value) < _NEGLIGIBLE else f"{value:+.3f}"


def _percent(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return "0 %" if not _moves(ratio) else f"{(ratio - 1.0) * 100.0:+.1f} %"
