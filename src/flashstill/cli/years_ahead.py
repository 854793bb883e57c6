"""The commands `trends`, `ceiling` and `arrays`: what the years ahead bring, and what no year will."""

from __future__ import annotations

from pathlib import Path

import click

from flashstill.cli.ahead_tables import print_arrays, print_ceiling, print_trends
from flashstill.cli.completion import complete_chips
from flashstill.cli.documents import asked_facts, json_option
from flashstill.cli.lists import words
from flashstill.cli.options import COUNT, SECONDS, WORD, Amount, chip_option, facts_options, given_options, model_option
from flashstill.cli.paging import give, page_option
from flashstill.errors import BadInput, shortened
from flashstill.units import parse_amount, parse_count


@click.command()
@click.option("--year", type=int, required=True, help="Year in which a chip lands.")
@click.option("--as-of", type=int, default=None, help="Use only what was known at the end of this year [default: all].")
@click.option(
    "--against", default="", shell_complete=complete_chips,
    help="Back-test: chips that came, with commas.",
)  # fmt: skip
@model_option()
@click.option("--isl", type=COUNT, default=512, show_default=True, help="Back-test: prompt tokens of the model.")
@click.option("--osl", type=COUNT, default=128, show_default=True, help="Back-test: output tokens of the model.")
@click.option("--concurrency", type=COUNT, default=16, show_default=True, help="Back-test: sequences in flight.")
@facts_options
@page_option
@json_option
def trends(
    year: int,
    as_of: int | None,
    against: str,
    model: str | None,
    isl: int,
    osl: int,
    concurrency: int,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """What a chip of a year can be made of: trends of dated rows with their bands; a back-test against chips that came.

    With --model a chip is proposed for it from what was known then.
    """
    from flashstill.years_ahead import trends as answer_trends

    given = given_options()
    for name in ("isl", "osl", "concurrency"):
        if name in given and model is None:
            raise BadInput(f"{given[name]} is the load of the model that a back-test proposes a chip for; give --model")
    facts = asked_facts(facts_directories, edits, as_json)
    answer = answer_trends(
        year=year, as_of=as_of, against=against, model=model, isl=isl, osl=osl, concurrency=concurrency, facts=facts
    )
    give(answer.as_dict(), out, as_json, print_trends)


@click.command()
@model_option(required=True)
@chip_option(required=True)
@click.option(
    "--memory", type=WORD, default="hbm3e,hbm4,hbm5,dram-3d,sram,infinite", show_default=True,
    help="Memories: stacks of the fact rows, sram, infinite (read in no time).",
)  # fmt: skip
@click.option("--sync", default="5us,1us,200ns,0", show_default=True, help="Seconds of a collective at the least.")
@click.option("--context", default="", help="Cached tokens [default: 1024,131072, or the model's most].")
@click.option(
    "--wanted",
    type=Amount("1", "10000"),
    default=10_000.0,
    show_default=True,
    help="Tokens a second that are asked for.",
)
@click.option("--precision", type=WORD, default="fp8", show_default=True, help="Format of the weights.")
@click.option("--max-chips", type=COUNT, default=1024, show_default=True, help="Most chips of a machine.")
@click.option("--operation", type=SECONDS, default=0.0, show_default=True, help="Least seconds of one operation.")
@facts_options
@page_option
@json_option
def ceiling(
    model: str,
    chip: str,
    memory: str,
    sync: str,
    context: str,
    wanted: float,
    precision: str,
    max_chips: int,
    operation: float,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """The most tokens a second for one user at any cost: memories, synchronisation and contexts, over all layouts."""
    from flashstill.years_ahead import ceiling as answer_ceiling

    facts = asked_facts(facts_directories, edits, as_json, chips=[chip])
    answer = answer_ceiling(
        model=model,
        chip=chip,
        memory=words(memory),
        sync_s=_amounts("--sync", sync, "s"),
        context=_counts("--context", context) if context else None,
        wanted=wanted,
        precision=precision,
        max_chips=max_chips,
        operation_s=operation,
        facts=facts,
    )
    give(answer.as_dict(), out, as_json, print_ceiling)


@click.command()
@model_option(required=True)
@click.option("--tokens", type=COUNT, required=True, help="Tokens that pass through the blocks together.")
@click.option("--edge", default="32,64,128", show_default=True, help="Rows, and columns, of the arrays to compare.")
@click.option("--precision", type=WORD, default="int8", show_default=True, help="Number format of both operands.")
@click.option("--node", type=WORD, default="n7", show_default=True, help="Process node.")
@click.option(
    "--multipliers", type=COUNT, default=16384, show_default=True, help="Multipliers of each candidate in all."
)
@click.option("--one-array", is_flag=True, help="One array of each edge, whatever its silicon, instead.")
@click.option("--overlapped", is_flag=True, help="Weights of the next tile load while products run.")
@facts_options
@page_option
@json_option
def arrays(
    model: str,
    tokens: int,
    edge: str,
    precision: str,
    node: str,
    multipliers: int,
    one_array: bool,
    overlapped: bool,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Time and energy of a model's matrix products on systolic arrays of several edges, of equal silicon."""
    from flashstill.years_ahead import arrays as answer_arrays

    if one_array and "multipliers" in given_options():
        raise BadInput("--multipliers does not bear on --one-array, which takes one array of each edge; leave one out")
    facts = asked_facts(facts_directories, edits, as_json)
    answer = answer_arrays(
        model=model,
        tokens=tokens,
        edge=_counts("--edge", edge),
        precision=precision,
        node=node,
        multipliers=None if one_array else multipliers,
        overlapped=overlapped,
        facts=facts,
    )
    give(answer.as_dict(), out, as_json, print_arrays)


def _amounts(option: str, text: str, unit: str) -> list[float]:
    found = [(word, parse_amount(word, unit)) for word in words(text)]
    for word, amount in found:
        if amount is None:
            raise BadInput(f"{option}: {shortened(word)!r} is no amount in {unit}; write it as 1us or 1e-6")
    return [amount for _, amount in found if amount is not None]


def _counts(option: str, text: str) -> list[int]:
    found = [(word, parse_count(word)) for word in words(text)]
    for word, count in found:
        if count is None:
            raise BadInput(f"{option}: {shortened(word)!r} is no whole number; write it as 64 or 128k")
    return [count for _, count in found if count is not None]
