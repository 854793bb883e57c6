"""`economics FAMILY_OR_RESULT`: what a family costs, when students pay, whether to distil, the next generations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flashstill.cli.documents import echo_edits, print_json
from flashstill.cli.options import COUNT, RATE, given_options
from flashstill.errors import BadInput, printable
from flashstill.units import short_count, show

if TYPE_CHECKING:
    from flashstill.facts import Facts
    from flashstill.family.answer import FamilyAnswer, StudentAnswer
    from flashstill.family.break_even import Crossing
    from flashstill.family.generations import Generation
    from flashstill.family.member_costs import MemberCosts

_F = TypeVar("_F", bound=Callable[..., Any])
_OF_A_FAMILY = ("generations", "student_growth", "draws", "seed")
_ANSWERED = (*_OF_A_FAMILY, "family", "chip", "tokens_per_day", "out", "facts_directories", "edits", "as_json")
_BEARERS = {
    "teacher_exists": "the teacher exists",
    "its_part": "with its part of the teacher",
    "all_of_it": "with all of the teacher",
}


def family_options(command: _F) -> _F:
    """Add the argument FAMILY_OR_RESULT and the options of a family."""
    for name, kind, told in reversed(
        (
            ("--generations", COUNT, "Family: later generations, each Flash against the Pro before it [default: 0]."),
            ("--student-growth", RATE, "Family: factor on the students' size and tokens per generation [default: 1]."),
            ("--draws", COUNT, "Family: draws of its intervals [default: 2000]."),
            ("--seed", COUNT, "Family: seed of the draws [default: 0]."),
        )
    ):
        command = click.option(name, type=kind, default=None, help=told)(command)
    path = click.Path(path_type=Path)
    return click.argument("family", required=False, metavar="[FAMILY_OR_RESULT]", type=path)(command)


def check_family(family: Path | None) -> None:
    """BadInput for options of a family without one, and for those of a single model beside one."""
    context, given = click.get_current_context(), given_options()
    foreign = _OF_A_FAMILY if family is None else [name for name in context.params if name not in _ANSWERED]
    for name in foreign:
        if name not in given:
            context.params.pop(name)  # no part of the question
        elif family is None:
            raise BadInput(f"{given[name]} is of a family: give its TOML file, or the directory of a finished run")
        else:
            raise BadInput(f"{given[name]} is of a single --model; a family's file says it itself")


def answer_family(
    changed: tuple[Facts, Facts, dict[str, float | str]], family: Path, asked: Mapping[str, Any], as_json: bool
) -> dict[str, Any]:
    """Answer and print, as text or as a JSON document, which is returned. changed: of `facts_and_edits`; asked: the
    options of the command."""
    from flashstill.family_economics import family_economics

    given = {name: asked[name] for name in _OF_A_FAMILY if asked[name] is not None}
    facts, edited, changes = changed
    answer = family_economics(
        family, tokens_per_day=asked["tokens_per_day"], chip=asked["chip"], facts=facts, set=changes, **given
    )
    echo_edits(edited, as_json)
    document = answer.as_dict()
    if as_json:
        print_json(document)
    else:
        print_family(answer)
    return document


def print_family(answer: FamilyAnswer) -> None:
    """Print the dollars by model and part, the break-even points, whether to distil, and later generations."""
    from flashstill.printing import print_notes, print_table

    costs, plan = answer.costs, answer.costs.plan
    total = sum(costs.parts.values())
    click.echo(
        f"{printable(plan.name)}: {short_count(plan.serving.tokens_per_day)} output tokens a day for"
        f" {costs.life.years:g} years, cost of capital {costs.life.interest:.0%}:"
        f" {show(total, 'USD')} per million tokens, prompts included"
    )
    heading = ["", "share", "trained", "signals", "serving", "own", "teacher", "per million", "expected loss"]
    print_table([heading, *(_row(answer, each) for each in costs.members)])
    share = costs.parts["prerequisite"] / total if total else 0.0
    small = answer.prerequisite_small_above
    low, high = answer.band.get("p10"), answer.band.get("p90")
    if low is not None and high is not None:
        drivers = [f"{each['name']}.{each['quantity']}" for each in answer.drivers[:3]]
        click.echo(
            f"\nP10 to P90: {show(low, 'USD')} to {show(high, 'USD')} per million tokens"
            + (f", most by {', '.join(drivers)}" if drivers else "")
        )
    click.echo(
        f"{printable(costs.teacher.name)} as a prerequisite: {show(costs.prerequisite_usd, 'USD')} at launch,"
        f" {share:.0%} of all dollars"
        + ("" if small is None else f"; below a tenth from {short_count(small, 2)} tokens a day on")
    )
    for student in answer.students:
        _print_student(answer, student)
    print_notes(answer.notes)


def _row(answer: FamilyAnswer, each: MemberCosts) -> list[str]:
    parts, loss = each.usd_per_million_tokens or {}, answer.expected[each.key].loss
    served = each.served.usd_per_million_tokens
    return [
        printable(each.name),
        f"{each.member.share:.0%}",
        show(each.run.usd, "USD"),
        "" if each.signals is None else show(each.signals.usd, "USD"),
        "-" if served is None else show(served, "USD"),
        show(parts["training"] + parts["signals"], "USD") if parts else "",
        show(parts["prerequisite"], "USD") if parts else "",
        "" if each.total_usd_per_million_tokens is None else show(each.total_usd_per_million_tokens, "USD"),
        "" if loss is None else f"{loss:.3f}",
    ]


def _print_student(answer: FamilyAnswer, student: StudentAnswer) -> None:
    name, teacher = printable(student.costs.name), printable(answer.costs.teacher.name)
    click.echo(f"\n{name}")
    click.echo(f"  against serving {teacher}: {_crossing(student.against_teacher)}")
    for who, found in student.against_scratch.items():
        click.echo(f"  against the same loss on labels, {_BEARERS[who]}: {_crossing(found)}")
    if student.worth is None:
        click.echo(f"  should I distil: not asked, {printable(student.worth_reason)}")
    else:
        flips = student.worth.flips_at_tokens
        click.echo(
            f"  should I distil: {student.worth.answer};"
            f" {'the answer never changes' if flips is None else f'changes at {short_count(flips, 2)} tokens'};"
            f" the teacher is {student.worth.teacher_is} for it"
        )
    if answer.measured:
        _print_measured(answer.measured.get(student.costs.name, {}))
    if student.generations:
        _print_generations(student.generations)


def _crossing(found: Crossing) -> str:
    if found.tokens_per_day is None:
        return printable(found.verdict)
    band = found.band or {}
    low, high = band.get("p10"), band.get("p90")
    ends = "" if low is None or high is None else f" (P10 to P90: {short_count(low, 2)} to {short_count(high, 2)})"
    return f"{found.verdict} {short_count(found.tokens_per_day)} tokens a day{ends}"


def _print_measured(measured: Mapping[str, Any]) -> None:
    made, other = measured.get("distilled"), measured.get("on_labels")
    if made is None:
        return
    told = f"  measured {measured['metric'].replace('_', ' ')}: {made['value']:.4g} distilled"
    if other is None:
        click.echo(f"{told}; no control on labels")
        return
    verdict = "intervals overlap" if measured["overlap"] else "better" if measured["is_better"] else "worse"
    click.echo(f"{told}, {other['value']:.4g} on labels ({verdict})")


def _print_generations(rows: tuple[Generation, ...]) -> None:
    from flashstill.printing import print_table

    heading = ["generation", "Pro loss", "Flash loss", "reaches Pro(n-1)", "price to Pro(n-1)", "needs parameters",
               "or tokens", "or algorithms x"]  # fmt: skip
    print_table(
        [heading]
        + [
            [
                str(each.number),
                f"{each.pro_loss:.3f}",
                f"{each.flash_loss:.3f}",
                "" if each.reaches is None else "yes" if each.reaches else "no",
                "" if each.price_ratio is None else f"{each.price_ratio:.1%}",
                _amount(each.parameters_needed),
                _amount(each.tokens_needed),
                _amount(each.algorithms_needed),
            ]
            for each in rows
        ]
    )


def _amount(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3g}"
