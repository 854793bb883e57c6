"""`codesign --search`: which chip to build for a mix of models, now or in several futures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from flashstill.cli.documents import asked_facts, print_infeasible, understood
from flashstill.cli.lists import words
from flashstill.cli.options import COUNT, WORD, Amount, given_options
from flashstill.cli.paging import give
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.units import show

_F = TypeVar("_F", bound=Callable[..., Any])
_OWN = ("search", "future", "objective", "node", "year", "as_of", "memory", "designs", "volume", "demand", "weights")
_SHARED = ("model", "isl", "osl", "max_ttft", "max_tpot", "precision", "max_chips")
_COMMON = ("facts_directories", "edits", "out", "as_json")
_SHOWN = 8
"""designs of the front that are printed"""


def search_options(command: _F) -> _F:
    """Add --search and the options that only a search has."""
    options = (
        click.option("--search", is_flag=True, help="Search the chip to build, of a million designs."),
        click.option(
            "--future", "--futures", "future", default="",
            help="Search: dense,sparse,long context,thinking, or a TOML file of futures [default: today's mix].",
        ),
        click.option(
            "--objective", type=WORD, default="usd", show_default=True,
            help="Search: usd, joules or latency of a token, or regret over the futures.",
        ),
        click.option("--node", type=WORD, default="", help="Search: processes, as n3,n2 [default: the year's newest]."),
        click.option("--year", type=click.INT, default=None, help="Search: in which it lands [default: begun now]."),
        click.option("--as-of", type=click.INT, default=None, help="Search: only rows known at the end of that year."),
        click.option(
            "--memory", type=WORD, default="", help="Search: kinds of memory, none for SRAM only [default: the year's]."
        ),
        click.option("--designs", type=COUNT, default=1_000_000, show_default=True, help="Search: about so many."),
        click.option(
            "--volume", type=Amount("1", "100000 or 100k", "packages"), default=None,
            help="Search: packages over which the design's own dollars are spread [default: a fact row].",
        ),
        click.option("--demand", type=click.FLOAT, default=1.0, show_default=True, help="Search: times that volume."),
        click.option("--weights", default="", help="Search: parts of the models in all tokens [default: equal]."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def run_search(
    models: Sequence[str],
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    asked: dict[str, Any],
) -> bool:
    """Answer a search if one is asked for, and say whether it was; takes its own options out of `asked`.

    BadInput for an option of the search without --search, or of the other question with it.
    """
    own = {name: asked.pop(name) for name in _OWN}
    given = given_options()
    if not own["search"]:
        for name in _OWN:
            if name in given:
                raise BadInput(f"{given[name]} belongs to a search; add --search")
        return False
    for name, spelled in given.items():
        if name not in (*_OWN, *_SHARED, *_COMMON):
            raise BadInput(f"{spelled} does not bear on a search; leave it out")
    for name in ("future", "node", "memory", "weights"):
        if name in given and not words(own[name]):
            raise BadInput(f"{given[name]} names nothing; leave it out for its default")
    from flashstill.chip_searching import MAX_CHIPS, chip_search

    facts = asked_facts(facts_directories, edits, as_json)
    most = asked["max_chips"] if "max_chips" in given else MAX_CHIPS
    understood({"max_chips": most})
    try:
        answer = chip_search(
            model=models,
            weights=_numbers(own["weights"]),
            future=_futures(own["future"]),
            objective=own["objective"],
            node=own["node"],
            year=own["year"],
            as_of=own["as_of"],
            isl=asked["isl"],
            osl=asked["osl"],
            max_ttft_s=asked["max_ttft"],
            max_tpot_s=asked["max_tpot"],
            precision=None if asked["precision"] == "published" else asked["precision"],
            memory=own["memory"],
            designs=own["designs"],
            volume=own["volume"],
            demand=own["demand"],
            max_chips=most,
            told=(lambda text: click.echo(text, err=True)) if sys.stderr.isatty() else (lambda text: None),
            facts=facts,
        )
    except InfeasiblePlan as error:
        if as_json:
            print_infeasible(error, best=None, futures=[], front=[])
        raise
    document = answer.as_dict()
    give(document, out, as_json, print_search)
    return True


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise BadInput(f"--weights is {text[:40]!r}; write numbers with commas between, as 3,1") from None


def _futures(text: str) -> str | Path:
    return Path(text) if text.strip().endswith(".toml") else text


def print_search(document: Mapping[str, Any]) -> None:
    """The answer on one screen: the chip, its loads, futures and regrets, features, and the front."""
    from flashstill.printing import print_notes, print_table

    best = document["best"]
    click.echo(f"build: {best['words']}")
    click.echo(
        f"  ${best['purchase_usd']:,.0f} a package with board and host, ${best['design_usd'] / 1e6:,.0f} million once;"
        f" {cost_of(best['cost'], document['objective'])}"
    )
    near = best["nearest"][0] if best["nearest"] else None
    if near:
        ratios = ", ".join(f"{name} x{ratio:.2g}" for name, ratio in near["ratios"].items())
        click.echo(f"  nearest chip that exists: {near['title']}: {ratios}")
    rows = [["load", "chips", "tp pp dp", "batch", "$/Mtok", "J/token", "s/token", "ttft"]]
    for load in best["loads"]:
        layout = f"{load['tp']} {load['pp']} {load['dp']}"
        rows.append([
            load["load"], str(load["chips"]), layout, str(load["batch"]), f"{load['usd'] * 1e6:.4g}",
            f"{load['joules']:.3g}", show(load["latency"], "s"), show(load["ttft_s"], "s"),
        ])  # fmt: skip
    print_table(rows)
    _print_futures(document)
    rows = [["feature of a few per cent of area", "multipliers", "costs", "saves", "where", "worth it above"]]
    for one in document["insurance"]:
        above = "never" if one["pays_above"] is None else f"{one['pays_above'] * 100:.1f} %"
        rows.append([
            one["name"], _percent(one["multipliers"]), _percent(one["premium"]), _percent(one["gain"]), one["world"],
            above,
        ])  # fmt: skip
    if len(rows) > 1:
        print_table(rows)
    rows = [["front: $/Mtok", "J/token", "s/token", "design"]]
    for one in document["front"][:_SHOWN]:
        rows.append([f"{one['usd']:.4g}", f"{one['joules']:.3g}", show(one["latency"], "s"), one["words"]])
    print_table(rows)
    if len(document["front"]) > _SHOWN:
        click.echo(f"and {len(document['front']) - _SHOWN} more designs on the front (--json)")
    found = document["searched"]
    click.echo(
        f"{found['designs']:,} designs: {found['can_be_made']:,} can be made, {found['priced_in_full']:,} were priced"
        f" in full, each on {found['deployments_of_each']:,} deployments"
    )
    if found["refined"]:
        click.echo(
            f"{found['refined']:,} more between the points of the grid were priced, around the best:"
            f" {_percent(-found['refined_saves'])} from the best of the grid"
        )
    click.echo(f"{found['cpu_s']:.1f} s of processor time", err=True)
    for reason, count in document["infeasible"].items():
        click.echo(f"  {count:>9,} {reason}")
    print_notes(document["notes"])


def _print_futures(document: Mapping[str, Any]) -> None:
    from flashstill.printing import print_table

    if document["regret"] is None:
        return
    names = [future["name"] for future in document["futures"]]
    rows = [["more than the best in", *names, "largest", "design"]]
    for one in document["regret"]["designs"]:
        rows.append([
            " and ".join(one["best_for"]), *(_percent(one["regret"][name]) for name in names),
            _percent(one["largest"]), one["design"]["words"],
        ])  # fmt: skip
    print_table(rows)


def cost_of(cost: float | None, objective: str) -> str:
    """A cost with its unit."""
    if cost is None:
        return "no cost"
    if objective == "joules":
        return f"{cost:.4g} J a token"
    return f"{show(cost, 's')} a token" if objective == "latency" else f"${cost:.4g}/Mtok"


def _percent(ratio: float | None) -> str:
    return "cannot" if ratio is None else f"{ratio * 100:+.1f} %" if ratio else "0 %"
