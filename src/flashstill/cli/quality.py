"""`flashstill quality`: predicted loss of a model, by a published law or one fitted on the user's own runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from flashstill.cli.documents import json_option, print_json
from flashstill.cli.options import COUNT, SHARE, Amount, given_options
from flashstill.errors import BadInput, printable, shortened
from flashstill.units import parse_amount, short_count

if TYPE_CHECKING:
    from flashstill.quality import Law


class _Size(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A number of parameters or tokens such as 7B, 1.4T, 300M or 7e9."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse it."""
        number = parse_amount(value, "1")
        if number is None or number <= 0:
            self.fail(f"{shortened(value)!r} is not a valid number; write it as 7B, 1.4T or 7e9.", param, ctx)
        return number


_CONDITIONS = ("teacher_loss", "experts", "weight_bits", "activation_bits", "cache_bits", "unique_tokens")
_OF_OPTIMA = ("input_flop_cost", "output_flop_cost", "teacher_parameters")
SIZE, NATS, RATIO = _Size(), Amount("1", "2.2", "loss"), Amount("1", "0.5 or 50", "ratio")


@click.command()
@click.argument("law_or_runs", required=False)
@click.option("--parameters", type=SIZE, default=None, help="Parameters of the model, as 7B; active ones of a mixture.")
@click.option("--tokens", type=SIZE, default=None, help="Training tokens, as 1.4T.")
@click.option("--loss", type=NATS, default=None, help="Loss to reach: what size or tokens does it take?")
@click.option("--teacher-loss", type=NATS, default=None, help="Loss of the teacher, on the law's scale.")
@click.option("--experts", type=COUNT, default=None, help="Experts of a mixture.")
@click.option("--weight-bits", type=RATIO, default=None, help="Bits of a weight in training.")
@click.option("--activation-bits", type=RATIO, default=None, help="Bits of an activation in training.")
@click.option("--cache-bits", type=RATIO, default=None, help="Bits of keys and values in training.")
@click.option("--unique-tokens", type=SIZE, default=None, help="Of which the training tokens are repetitions.")
@click.option("--level", type=SHARE, default=0.8, show_default=True, help="Probability that the interval holds.")
@click.option("--inference-tokens", type=SIZE, default=None, help="Tokens served over its life: the cheapest model.")
@click.option("--requests", type=SIZE, default=None, help="Requests served over its life, of --isl and --osl tokens.")
@click.option("--isl", type=COUNT, default=None, help="Input tokens of a request.")
@click.option("--osl", type=COUNT, default=None, help="Output tokens of a request.")
@click.option("--input-flop-cost", type=RATIO, default=1.0, help="Of an input FLOP, training being 1 [default: 1].")
@click.option("--output-flop-cost", type=RATIO, default=1.0, help="Of an output FLOP, training being 1 [default: 1].")
@click.option("--teacher-parameters", type=SIZE, default=None, help="Of a teacher that reads every training token.")
@click.option("--domain", default="", help="Text of records [default: the only one].")
@click.option("--metric", default="perplexity", show_default=True, help="Of records: perplexity or 'bits per byte'.")
@click.option("--role", default="", help="Models of records: control or student [default: the only one].")
@click.option("--extrapolate", is_flag=True, help="Answer beyond ten times the largest run that was fitted.")
@json_option
def quality(law_or_runs: str | None, as_json: bool, **asked: Any) -> None:
    """Loss of a model from size, tokens and teacher, by a published law or a fit on one's own runs.

    LAW_OR_RUNS: besiroglu-2024, busbridge-2025, ... (without it: all of them), or a .csv or .jsonl file of five or more
    runs with parameters, tokens and loss, or the records.jsonl of flashstill.
    """
    from flashstill.quality import published_names
    from flashstill.quality_laws import quality_law

    if law_or_runs is None:
        _check_nothing_asked(asked)
        _list(as_json)
        return
    chosen = {name: asked.pop(name) for name in ("domain", "metric", "role", "extrapolate")}
    conditions = {name: asked[name] for name in _CONDITIONS}
    is_published = law_or_runs.strip().lower() in published_names()
    law = quality_law(law_or_runs, teacher_loss=None if is_published else conditions["teacher_loss"], **chosen)
    document = _answer(law, asked, conditions)
    if document["optimum"] is None:
        _refuse_unused(_OF_OPTIMA, "is of the cheapest model: give --inference-tokens or --requests, or --loss alone")
    if as_json:
        print_json(document)
    else:
        _print(law, document)


def _check_nothing_asked(asked: dict[str, Any]) -> None:
    """BadInput if anything was asked of no law: it would be ignored."""
    _refuse_unused(
        asked, "needs a law: name one, as besiroglu-2024, or a file of runs; without one, quality lists the laws"
    )


def _refuse_unused(names: Iterable[str], why: str) -> None:
    """BadInput for the first of these options that was given."""
    given = given_options()
    name = next((name for name in names if name in given), None)
    if name is not None:
        raise BadInput(f"{given[name]} {why}")


def _list(as_json: bool) -> None:
    from flashstill.printing import print_table
    from flashstill.quality import published, published_names

    laws = [published(name) for name in published_names()]
    if as_json:
        print_json([law.as_dict() for law in laws])
        return
    rows = [("law", "of", "coefficients", "parameters seen", "tokens seen")]
    rows += [(law.name, law.title, law.kind, _span(law.support.parameters), _span(law.support.tokens)) for law in laws]
    print_table(rows, spare=("tokens seen", "parameters seen"))


def _span(span: tuple[float, float]) -> str:
    return f"{short_count(span[0])} to {short_count(span[1])}"


def _answer(law: Law, asked: dict[str, Any], conditions: dict[str, Any]) -> dict[str, Any]:
    """The JSON document: the law, and as much of prediction, needed amount and optimum as was asked for."""
    size, tokens, loss = asked["parameters"], asked["tokens"], asked["loss"]
    if size is not None and tokens is not None and loss is not None:
        raise BadInput("give two of --parameters, --tokens and --loss; the third is the answer")
    if size is not None and loss is not None:
        tokens = _reached(float(law.tokens_for(loss, size, **conditions)), law, f"{short_count(size)} parameters", loss)
    elif tokens is not None and loss is not None:
        size = _reached(
            float(law.parameters_for(loss, tokens, **conditions)), law, f"{short_count(tokens)} tokens", loss
        )
    document: dict[str, Any] = {"law": law.as_dict(), "prediction": None, "optimum": None}
    if size is not None and tokens is not None:
        document["prediction"] = law.predict(size, tokens, level=asked["level"], **conditions).as_dict()
        loss = document["prediction"]["loss"]
    elif loss is None and (size is not None or tokens is not None):
        raise BadInput("a loss needs --parameters and --tokens; or give --loss and one of them")
    served = _served(asked)
    if served is not None or (loss is not None and document["prediction"] is None):
        if loss is None:
            raise BadInput(
                "the cheapest model needs a quality: --loss, or --parameters and --tokens of one that is as good"
            )
        document["optimum"] = _optimum(law, loss, served or {}, asked["teacher_parameters"], conditions, size, tokens)
    return document


def _reached(amount: float, law: Law, given: str, loss: float) -> float:
    from flashstill.errors import InfeasiblePlan

    if amount == float("inf"):
        raise InfeasiblePlan(f"{given} reach no loss of {loss:g} under {law.name}, whatever the other is")
    return amount


def _served(asked: dict[str, Any]) -> dict[str, float] | None:
    """What is served, and what its FLOPs cost; None if nothing was said."""
    costs = {"input_per_flop": asked["input_flop_cost"], "output_per_flop": asked["output_flop_cost"]}
    if asked["requests"] is not None:
        if asked["inference_tokens"] is not None or asked["isl"] is None or asked["osl"] is None:
            raise BadInput("--requests needs --isl and --osl, and no --inference-tokens")
        each = {"input_tokens": asked["isl"], "output_tokens": asked["osl"]}
        return {**{name: count * asked["requests"] for name, count in each.items()}, **costs}
    _refuse_unused(("isl", "osl"), "is of a request: give --requests, how many there are")
    if asked["inference_tokens"] is not None:
        return {"output_tokens": asked["inference_tokens"], **costs}
    return None


def _optimum(
    law: Law,
    loss: float,
    served: dict[str, float],
    teacher: float | None,
    conditions: dict[str, Any],
    size: float | None,
    tokens: float | None,
) -> dict[str, Any]:
    from flashstill.quality.optimum import Life, cheapest

    life = Life(**served, teacher_parameters=teacher or 0.0)
    found = cheapest(law, loss, life, **conditions)
    known = size is not None and tokens is not None
    asked_cost = float(life.cost(size, tokens)) if known else None
    return {
        "parameters": float(found.parameters),
        "tokens": float(found.tokens),
        "loss": loss,
        "training_flops": float(found.training),
        "serving_flops": float(found.serving),
        "teacher_flops": float(found.teaching),
        "flops": float(found.cost),
        "saved_ratio": None if asked_cost is None else 1 - float(found.cost) / asked_cost,
        "notes": list(law.remarks(found.parameters, found.tokens, **conditions)),
    }


def _print(law: Law, document: dict[str, Any]) -> None:
    from flashstill.printing import print_table

    click.echo(f"{printable(law.name)}: {law.title} ({law.kind}), {printable(law.source)}")
    click.echo(
        f"saw {_span(law.support.parameters)} parameters, {_span(law.support.tokens)} tokens; counts {law.counted}"
    )
    predicted, optimum = document["prediction"], document["optimum"]
    notes = list(law.notes)
    if predicted is not None:
        around = (
            "no interval"
            if predicted["loss_low"] is None
            else f"{predicted['loss_low']:.4g} to {predicted['loss_high']:.4g}"
        )
        rows = [("parameters", "tokens", "loss", f"{predicted['level']:.0%} interval")]
        rows.append(
            (
                short_count(predicted["parameters"]),
                short_count(predicted["tokens"]),
                f"{predicted['loss']:.4g}",
                around,
            )
        )
        click.echo(f"\n{printable(predicted['scale'])}")
        print_table(rows)
        notes = predicted["notes"]
    if optimum is not None:
        saved = (
            "" if optimum["saved_ratio"] is None else f", {optimum['saved_ratio']:.1%} less than the model asked about"
        )
        click.echo(
            f"\nthe cheapest model of a loss of {optimum['loss']:.4g}: {short_count(optimum['parameters'])} parameters"
            f" on {short_count(optimum['tokens'])} tokens, {optimum['flops']:.3g} FLOPs over its life{saved}"
        )
        shares = {name: optimum[f"{name}_flops"] / optimum["flops"] for name in ("training", "serving", "teacher")}
        click.echo("of which " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share))
        notes = list(dict.fromkeys([*notes, *optimum["notes"]]))
    if law.held_out:
        left_out = [("run left out", "parameters", "tokens", "loss", "foretold", "80 % interval")]
        for row in law.held_out:
            sizes = short_count(row.parameters), short_count(row.tokens), f"{row.loss:.4g}", f"{row.predicted:.4g}"
            left_out.append((printable(row.model), *sizes, f"{row.low:.4g} to {row.high:.4g}"))
        click.echo("")
        print_table(left_out, spare=("tokens", "parameters"))
    click.echo("")
    for note in notes:
        click.echo(f"note: {printable(note)}")
