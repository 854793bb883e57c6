"""The command that shares a fleet between users and training, hour by hour."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashstill.cli.documents import echo_edits, facts_and_edits, json_option, print_json
from flashstill.cli.options import SECONDS, SHARE, facts_options, price_option
from flashstill.cli.paging import page_option, write_page
from flashstill.errors import BadInput, InfeasiblePlan, printable
from flashstill.units import parse_amount

if TYPE_CHECKING:
    from flashstill.capacity.answer import CapacityAnswer

SHOWN = 3
"""violations that are printed in full"""


@click.command()
@click.argument("plan", type=click.Path(path_type=Path, dir_okay=False), metavar="PLAN.toml")
@click.option(
    "--rolling", type=float, default=None, metavar="HOURS",
    help="Solve in windows of so many hours, and say how far from the whole that may be [default: plans that are too"
    " large to solve at once, in weeks].",
)  # fmt: skip
@click.option(
    "--frontier", default=None, metavar="SHARES",
    help="When training finishes at the earliest if so much of the demand is served, as 50%,75%,100%.",
)  # fmt: skip
@click.option(
    "--gang-gap", type=SHARE, default=None, help="Of runs in gangs: gap at which the search ends [default: 2%]."
)
@click.option(
    "--gang-seconds", type=SECONDS, default=None, help="Of runs in gangs: the most for each window [default: 5s]."
)
@page_option
@price_option
@facts_options
@json_option
def capacity(
    plan: Path,
    rolling: float | None,
    frontier: str | None,
    gang_gap: float | None,
    gang_seconds: float | None,
    out: Path | None,
    price: str,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Share a fleet between users and training: chip-hours of each product and run, hour by hour, and what binds."""
    from flashstill.capacity_planning import capacity as plan_capacity

    facts, edited, changes = facts_and_edits(facts_directories, edits)
    shares = _shares(frontier)
    tells = sys.stderr.isatty()
    answer = plan_capacity(
        plan, price=price, rolling_hours=rolling, gang_gap=gang_gap, gang_seconds=gang_seconds, frontier=shares,
        told=(lambda text: click.echo(text, err=True)) if tells else (lambda text: None), facts=facts,
        set=changes,
    )  # fmt: skip
    echo_edits(edited, as_json)
    reason = "" if answer.feasible else "; ".join(sentence(one) for one in answer.violations[:SHOWN])
    if as_json:
        why = {} if answer.feasible else {"reason": reason, "reasons": answer.reasons}
        print_json({**answer.as_dict(), **why})
    else:
        print_answer(answer)
    if out is not None:
        write_page(out, answer.as_dict())
    if not answer.feasible:
        raise InfeasiblePlan(reason, answer.reasons)


def _shares(text: str | None) -> list[float]:
    found = []
    for part in (text or "").split(","):
        if not part.strip():
            continue
        share = parse_amount(part, "1")
        if share is None:
            raise BadInput(f"--frontier holds {part.strip()!r}, not a share; write it as 50%,75%,100%")
        found.append(share)
    return found


def sentence(violation: dict[str, Any]) -> str:
    """What cannot be kept, and what would mend it, as one clause."""
    mend = violation["mend"]
    more = [f"{count:,} more {kind}" for kind, count in mend["more_chips"].items() if count]
    if violation["kind"] == "demand":
        what = (
            f"{violation['product']} at hour {violation['hour']:g}: {violation['unserved_tokens_per_s']:,.0f} of"
            f" {violation['demand_tokens_per_s']:,.0f} output tokens/s cannot be served"
        )
        out = [f"{count:,.0f} {kind}" for kind, count in mend["out_of_service"].items()]
        more += [f"keeping {' and '.join(out)} in service"] if out else []
    else:
        what = (
            f"{violation['run']}: {violation['missing_ratio']:.1%} of its work cannot be done by hour"
            f" {violation['deadline']:g}"
        )
        more += [f"a deadline {mend['hours_later']:g} hours later"] if mend["hours_later"] else []
    if not more and mend.get("about"):
        return f"{what} (chip-hours are enough, but not together: a smaller gang or shorter restarts would mend it)"
    about = "about " if mend.get("about") else ""
    return (
        f"{what} ({about}{' or '.join(more)} would mend it)" if more else f"{what} (no number of chips would mend it)"
    )


def print_answer(answer: CapacityAnswer) -> None:
    """Who has the chip-hours, when training finishes, and what one unit more is worth."""
    from flashstill.printing import print_notes, print_table

    plan = answer.problem.plan
    unit = "hours of finishing" if plan.objective == "training" else "dollars"
    click.echo(
        f"{answer.status}: {answer.cost:,.0f} {unit}"
        + ("" if answer.bound is None else f", at least {answer.bound:,.0f}")
        + ("" if answer.gap is None else f" (gap {answer.gap:.2%})")
        + f"; {len(plan.chips)} chip kinds, {plan.periods:,} steps of {plan.step_hours:g} h, {answer.method}"
    )
    rows = [["chip-hours of", "for", "chip-hours", "share"]]
    rows += [
        [row["chip"], row["for"], f"{row['chip_hours']:,.0f}", f"{row['ratio']:.1%}"] for row in answer.chip_hours()
    ]
    print_table(rows)
    finishes = answer.training_finishes()
    if finishes:
        rows = [["run", "finishes, h", "deadline, h", "most chips", "restarts"]]
        rows += [
            [row["run"], _hour(row["finishes"]), f"{row['deadline']:,g}",
             f"{row['most_chips']:,.0f}", str(row["restarts"])]
            for row in finishes
        ]  # fmt: skip
        print_table(rows)
    if answer.duals is not None:
        _print_duals(answer.duals)
    if answer.frontier is not None:
        runs = [run.name for run in plan.trainings]
        rows = [["demand served", *(f"{run}, h" for run in runs)]]
        rows += [
            [f"{point['served_ratio']:.1%}", *(_hour(hour) for hour in point["finishes"].values())]
            for point in answer.frontier
        ]  # fmt: skip
        print_table(rows)
    for one in answer.violations:
        click.echo(printable(sentence(one)), err=True)
    print_notes(answer.notes)


def _print_duals(duals: dict[str, Any]) -> None:
    sign, unit = ("$", "") if duals["unit"] == "usd" else ("", " h")
    for name, chip in duals["chips"].items():
        click.echo(f"one more {name} is worth {sign}{chip['one_more']:,.4g}{unit} (it costs ${chip['costs_usd']:,.2f})")
    for name, slack in duals["deadlines"].items():
        later, earlier = slack["one_hour_later"], slack["one_hour_earlier"]
        parts = [] if later is None else [f"an hour later saves {sign}{later:,.4g}{unit}"]
        parts += [] if earlier is None else [f"an hour earlier costs {sign}{earlier:,.4g}{unit}"]
        click.echo(f"deadline of {name}: {', '.join(parts) or 'no hour beside it is in the plan'} ({slack['basis']})")
    if duals["one_more_nine"] is not None:
        click.echo(f"one more nine costs at least {sign}{duals['one_more_nine']:,.4g}{unit}")


def _hour(hour: float | None) -> str:
    return "not" if hour is None else f"{hour:,.2f}"
