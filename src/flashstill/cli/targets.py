"""plan --quality-target: the cheapest student that reaches a quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flashstill.cli.documents import print_infeasible, print_json
from flashstill.cli.options import COUNT, WORD, Amount, given_options
from flashstill.errors import BadInput, InfeasiblePlan, printable, shortened
from flashstill.units import parse_count, short_count, show

if TYPE_CHECKING:
    from flashstill.facts import Facts
    from flashstill.targets.answer import Doubt, Quantiles, Student, TargetPlan


class _Tokens(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A number of tokens, as 15T, 100B (billions) or 3e12."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the number; a default is already a number."""
        count = parse_count(value) if isinstance(value, str) else int(value)
        if count is None:
            self.fail(f"{shortened(value)!r} is no number of tokens; write it as 15T, 100B or 3e12.", param, ctx)
        return count


_F = TypeVar("_F", bound=Callable[..., Any])
_OPTIONS = (
    ("--quality-target", str, None, 'A loss, "as MODEL" or "as MODEL on 15T": find the cheapest student of it.'),
    ("--like", str, None, "Student: the model whose shape is scaled [default: --model]."),
    ("--tokens-served", _Tokens(), None, "Student: output tokens that it serves in its life."),
    ("--law", WORD, None, "Student: scaling law [default: besiroglu-2024; with --teacher busbridge-2025]."),
    (
        "--runs",
        click.Path(path_type=Path, dir_okay=False),
        None,
        "Student: CSV or JSON lines of runs; a law is fitted.",
    ),
    ("--domain", str, "", "Student: text of the records of --runs [default: the only one]."),
    ("--role", WORD, "", "Student: models of the records of --runs, control or student [default: the only one]."),
    ("--extrapolate", bool, False, "Student: a law of --runs also beyond ten times the largest of them."),
    ("--experts", str, "1", "Student: FFN weights over those of a token, with commas; like: as the shape's."),
    ("--teacher", str, None, 'Student: learns from it, "MODEL" or "MODEL on 15T"; its reading is paid.'),
    ("--teacher-loss", float, None, "Student: the teacher's loss [default: what the law gives]."),
    ("--students", COUNT, 1, "Student: how many share the teacher's stored signals."),
    ("--unique-tokens", _Tokens(), None, "Student: training text; more tokens are repetitions [default: enough]."),
    ("--train-chips", WORD, None, "Student: chips to train on, with commas [default: those of serving]."),
    ("--train-days", Amount("1", "90", "number"), 90.0, "Student: days in which the training must end."),
    ("--train-length", COUNT, None, "Student: tokens of a training sequence [default: 4096, or a shorter context]."),
    ("--train-precision", WORD, "bf16", "Student: bf16 or fp8."),
)
NAMES = tuple(name.removeprefix("--").replace("-", "_") for name, *_ in _OPTIONS)
NOT_BESIDE = (
    "emit", "image", "pick", "trace", "slo", "speed", "window", "cold_start", "router", "co_located", "draft",
    "draft_tokens", "acceptance", "acceptance_decay",
)  # fmt: skip
_SERVING = {
    "isl": "isl", "osl": "osl", "burst_share": "burst_share", "batching_steps": "batching_steps", "cohort": "cohort",
    "cached_ratio": "cached_ratio", "isl_cv": "isl_cv", "osl_cv": "osl_cv",
    "max_ttft": "max_ttft_s", "max_tpot": "max_tpot_s", "min_throughput": "min_tokens_per_s", "engine": "engine",
    "disaggregated": "disaggregated",
}  # fmt: skip
"""option -> keyword of the search"""
_LISTS = ("batches", "precisions", "kv_precisions", "tiers", "overlaps", "redundant_experts")


def target_options(command: _F) -> _F:
    """Add --quality-target and the options of a student."""
    for name, kind, default, told in reversed(_OPTIONS):
        if kind is bool:
            command = click.option(name, is_flag=True, help=told)(command)
            continue
        command = click.option(name, type=kind, default=default, show_default=default not in (None, ""), help=told)(
            command
        )
    return command


def check_target(model: str | None, asked: Mapping[str, Any]) -> bool:
    """Whether a student is asked for; BadInput for options that have no place beside the others."""
    given = given_options()
    if asked["quality_target"] is None:
        for name in NAMES:
            if name in given:
                raise BadInput(f"{given[name]} is of a student, which needs a --quality-target")
        if model is None:
            raise click.MissingParameter(ctx=click.get_current_context(), param_type="option", param_hint="'--model'")
        return False
    for name in given:
        if name in NOT_BESIDE:
            raise BadInput(f"{given[name]} has no place beside --quality-target")
    if model is not None and asked["like"] is not None:
        raise BadInput("--like and --model both name the shape of the student; give one")
    if model is None and asked["like"] is None:
        raise BadInput("a student needs a shape to be scaled: give --like MODEL")
    for name in ("tokens_served", "max_chips"):
        if asked[name] is None:
            raise BadInput(f"a student needs --{name.replace('_', '-')}")
    return True


def plan_quality(facts: Facts, model: str | None, asked: Mapping[str, Any], as_json: bool) -> None:
    """Print the cheapest student. asked: the options of `plan`; chips_from, precision, tiers, ... as lists."""
    from flashstill.console import Console
    from flashstill.student_planning import plan_student

    serving: dict[str, Any] = {keyword: asked[name] for name, keyword in _SERVING.items() if asked[name] is not None}
    lists: dict[str, Any] = {name: tuple(asked[name]) for name in _LISTS if asked[name]}
    student: dict[str, Any] = {
        name: asked[name] for name in NAMES if name not in ("quality_target", "like", "experts", "train_chips")
    }
    try:
        answer = plan_student(
            target=asked["quality_target"], like=asked["like"] or model or "", chips=asked["chips_from"],
            max_chips=asked["max_chips"], experts=_experts(asked["experts"]), train_chips=asked["train_chips"] or (),
            price=asked["price"], progress=Console(), facts=facts, **student, **serving, **lists,
        )  # fmt: skip
    except InfeasiblePlan as error:
        if as_json:
            print_infeasible(error, best=None, runners_up=[])
        raise
    if as_json:
        print_json(answer.as_dict())
    else:
        print_target(answer)


def _experts(text: str) -> list[float | None]:
    counts: list[float | None] = []
    for word in (each.strip() for each in text.split(",")):
        number = parse_count(word)
        if word.lower() == "like":
            counts.append(None)
        elif number is None:
            raise BadInput(f"experts is {shortened(text)!r}, not numbers with commas between, as 1,8,32, or like")
        else:
            counts.append(float(number))
    return counts


def print_target(answer: TargetPlan) -> None:
    """The best student, the runners-up, how sure the choice is, and what it rests on."""
    from flashstill.printing import print_notes, print_table

    best = answer.best
    target = answer.target if answer.target.startswith("a loss") else f"{answer.target}, a loss of {answer.loss:.4g}"
    taught = "" if answer.teacher is None else f", taught by {answer.teacher} (loss {answer.teacher_loss:.4g})"
    click.echo(printable(f"{target} ({answer.scale}; {answer.law}){taught}"))
    click.echo(
        printable(
            f"cheapest student: {best.model}, {best.depth} blocks of width {best.width}, on"
            f" {short_count(best.training_tokens)} tokens ({best.tokens_per_parameter:,.0f} a parameter);"
            f" {_usd(best.usd)} in all"
        )
    )
    layout = f" ({best.train_layout})" if best.train_layout else ""
    click.echo(
        f"  training {_usd(best.training_usd)}: {best.train_chips:,} x {best.train_chip}{layout},"
        f" {best.train_days:.3g} days, MFU {best.train_mfu:.0%}, {best.train_batch_tokens:,} tokens a step"
    )
    if answer.teacher is not None:
        click.echo(f"  teacher  {_usd(best.teacher_usd)}: its reading of the training text")
    click.echo(
        f"  serving  {_usd(best.serving_usd)}: {short_count(answer.tokens_served)} tokens at"
        f" ${best.usd_per_million_output_tokens:.4g} per million, {best.chips} x {best.chip}, batch {best.batch}"
    )
    print_table([list(_HEADING), *(_row(each) for each in (best, *answer.runners_up))], ("tokens a parameter",))
    if answer.reference is not None:
        own = answer.reference
        dollars = "does not fit these chips or days" if own.usd is None else f"{_usd(own.usd)} in all"
        click.echo(printable(f"{own.model} itself, on {short_count(own.training_tokens)} tokens: {dollars}"))
    if answer.doubt is not None:
        _print_doubt(answer.doubt)
    refused = "; ".join(f"{count} x {reason}" for reason, count in answer.reasons.items())
    click.echo(f"{answer.evaluated} candidates, {answer.priced} priced{f'; not taken: {refused}' if refused else ''}")
    print_notes((*answer.notes, f"law: {answer.law_source}"))


_HEADING = (
    "student", "experts", "format", "tokens", "tokens a parameter", "training", "teacher", "serving", "total",
    "served on",
)  # fmt: skip


def _row(each: Student) -> list[str]:
    return [
        each.model.split(" like ")[0], f"{each.experts:.3g}", each.precision, short_count(each.training_tokens),
        f"{each.tokens_per_parameter:,.0f}", _usd(each.training_usd), _usd(each.teacher_usd), _usd(each.serving_usd),
        _usd(each.usd), f"{each.chips} x {each.chip}",
    ]  # fmt: skip


def _print_doubt(found: Doubt) -> None:
    click.echo(f"how sure ({found.kind}, {found.cases}): P10 / P50 / P90")
    for name, values, form in (
        ("size of the cheapest", found.active_parameters, short_count),
        ("its tokens", found.training_tokens, short_count),
        ("its dollars", found.usd, _usd),
        ("tokens that the student above needs", found.best_tokens, short_count),
    ):
        click.echo(f"  {name}: {_three(values, form)}")
    worst = found.best_over_cheapest_p90
    more = (
        "it misses the target in over one of ten"
        if worst is None
        else f"in nine of ten it costs at most {worst - 1:.0%} more"
    )
    missed = f"; no candidate reaches the target in {found.unreached:.0%}" if found.unreached else ""
    click.echo(f"  the student above is the cheapest in {found.best_is_cheapest:.0%} of cases; {more}{missed}")


def _three(values: Quantiles, form: Callable[[float], str]) -> str:
    return " / ".join("none" if value is None else form(value) for value in (values.p10, values.p50, values.p90))


def _usd(amount: float) -> str:
    return show(amount, "USD")
