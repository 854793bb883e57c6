"""The command that measures: this machine, a server, or models on this machine."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from flashstill.cli.agent_options import AGENTS_HELP, agent_options
from flashstill.cli.calibrating import case_option, given_cells
from flashstill.cli.documents import json_option, print_json
from flashstill.cli.learning_options import ARITHMETIC, ARITHMETIC_HELP
from flashstill.cli.measured import print_measurement
from flashstill.cli.options import COUNT, DIRECTORY, SECONDS, SHARE, WORD, given_options
from flashstill.cli.trace_options import TRACE_HELP, reading_of, reading_options, replay_option
from flashstill.errors import BadInput
from flashstill.units import parse_amount, parse_count

_SWEEP = ("batch", "context", "repeats")
"""options of --model"""


@click.command()
@click.option(
    "--arithmetic",
    type=click.Choice(ARITHMETIC),
    default="auto",
    show_default=True,
    help=ARITHMETIC_HELP,
)
@click.option("--model", type=DIRECTORY, default=None, help="Time prefill and decode of this model directory in torch.")
@click.option("--batch", default=None, metavar="N,N,...", help="Batches of --model [default: 1,2,4,8].")
@click.option("--context", default=None, metavar="N,N,...", help="Contexts of --model [default: 128,512].")
@click.option(
    "--repeats", type=COUNT, default=5, show_default=True, help="Timings of every batch and context, after a warm-up."
)
@click.option(
    "--server", default=None, metavar="URL", help="Measure this OpenAI-compatible server, as http://127.0.0.1:8000/v1."
)
@click.option("--served-name", default="", help="The served model [default: the only one].")
@click.option("--api", type=WORD, default="completions", show_default=True, help="completions or chat.")
@click.option("--concurrency", default=None, metavar="N,N,...", help="Closed loop: requests in flight, level by level.")
@click.option(
    "--rate", default=None, metavar="R,R,...", help="Open loop: requests per second (Poisson), level by level."
)
@click.option("--trace", type=click.Path(path_type=Path), default=None, help=TRACE_HELP)
@reading_options
@replay_option
@click.option("--speed", type=float, default=1.0, show_default=True, help="The trace's arrivals so many times as fast.")
@click.option("--agents", default=None, metavar="N,N,...", help=f"{AGENTS_HELP}, level by level.")
@agent_options
@click.option(
    "--requests",
    type=COUNT,
    default=None,
    help="Requests of a run [default: 10 per request in flight, at least 20; 100 at a rate; the whole trace].",
)
@click.option("--isl", type=COUNT, default=256, show_default=True, help="Prompt tokens.")
@click.option("--osl", type=COUNT, default=128, show_default=True, help="Output tokens.")
@click.option(
    "--least-ratio", type=SHARE, default=1.0, show_default=True, help="Shortest drawn length over the nominal one."
)
@click.option("--runs", type=COUNT, default=5, show_default=True, help="Runs of each level.")
@click.option(
    "--warm-up/--no-warm-up", default=True, help="Load the server before the runs, until its times are stationary."
)
@click.option("--in-turn", is_flag=True, help="Run every level once, then again: a drift of the machine is in all.")
@click.option("--until-saturation", is_flag=True, help="Double the load until it brings no more; stop there.")
@click.option("--ignore-eos/--keep-eos", default=True, help="Ask for answers of the full length, where the server can.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="Of sampling; 0 is greedy.")
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    default=None,
    help="Model directory or tokenizer.json: prompts of exact length.",
)
@click.option(
    "--time-limit", "time_limit_s", type=SECONDS, default=300.0, show_default=True, help="Longest time of a request."
)
@click.option("--stall", "stall_s", type=SECONDS, default=60.0, show_default=True, help="Longest wait for a byte.")
@click.option(
    "--max-in-flight",
    "most_in_flight",
    type=COUNT,
    default=1024,
    show_default=True,
    help="Most requests in flight of an open loop; further ones wait in the client.",
)
@click.option(
    "--clients", type=COUNT, default=1, show_default=True, help="Processes that send requests, where one is too slow."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of prompts and arrivals.")
@click.option(
    "--out", type=DIRECTORY, default=None, help="Keep every request here; the same command goes on where it was."
)
@case_option
@json_option
def measure(
    arithmetic: str, model: Path | None, server: str | None, out: Path | None, as_json: bool, **flags: Any
) -> None:
    """Measure this machine; with --server URL what users of a server see under load; with --model DIR a model's steps.

    Without options: this machine's matmul peak, bandwidth and overhead; it becomes the chip `this-machine`.
    """
    sweep = {name: flags.pop(name) for name in _SWEEP}
    if model is not None:
        _refuse_given("a server; leave --model out", ("model", "out", *_SWEEP))
        _measure_model(model, sweep, arithmetic, out, as_json)
        return
    if server is None:
        _refuse_given("a server; give --server", _SWEEP)
        _refuse_given("a model; give --model", ())
        _measure_this_machine(arithmetic, as_json)
        return
    from flashstill.console import Console
    from flashstill.load_test.written import measure_server

    _refuse_given("a model; give --model", [each.name for each in _here().params if each.name not in _SWEEP])
    case = given_cells(flags.pop("given"))
    found = measure_server(load_test_of(server, flags), Console(), out, case)
    if as_json:
        print_json(found.as_dict())
    else:
        print_measurement(found)


def _measure_model(model: Path, sweep: dict[str, Any], arithmetic: str, out: Path | None, as_json: bool) -> None:
    from flashstill.console import Console
    from flashstill.printing import print_table
    from flashstill.runs.speed import measure_model
    from flashstill.units import show

    batches = _numbers("--batch", sweep["batch"] or "1,2,4,8", parse_count)
    contexts = _numbers("--context", sweep["context"] or "128,512", parse_count)
    found = measure_model(model, batches, contexts, sweep["repeats"], Console(), arithmetic, out)
    if as_json:
        print_json(found.as_dict())
        return
    click.echo(f"{model} in {found.arithmetic}; predicted from {found.machine}")
    heading = ("phase", "batch", "context", "measured", "lowest", "highest", "predicted", "error")
    rows = []
    for step in found.steps:
        each = step.measured
        seconds = (show(value, "s") for value in (each.seconds, each.low, each.high, step.predicted.seconds))
        rows.append((each.phase, f"{each.batch:,}", f"{each.context:,}", *seconds, f"{step.error:+.1%}"))
    print_table([heading, *rows])
    mean = sum(abs(step.error) for step in found.steps) / len(found.steps)
    click.echo(f"mean error {mean:.1%} over {len(found.steps):,} steps")


def load_test_of(server: str, flags: dict[str, Any]) -> Any:
    """The measurement that options ask for."""
    from flashstill.load_test.question import LoadTest

    many, rates, speed, agents = (flags.pop(name) for name in ("concurrency", "rate", "speed", "agents"))
    if many is None and rates is None and agents is None and flags["trace"] is None:
        many = "1"
    return LoadTest(
        base=server,
        name=flags.pop("served_name"),
        concurrency=_numbers("--concurrency", many, parse_count),
        rates=_numbers("--rate", rates, lambda text: parse_amount(text, "1")),
        agents=_numbers("--agents", agents, parse_count),
        speeds=(speed,),
        reading=reading_of(flags),
        **flags,
    )


def _here() -> click.Command:
    return click.get_current_context().command


def _refuse_given(sentence: str, allowed: Collection[str | None]) -> None:
    """BadInput for an option on the command line that means nothing here."""
    for name, option in given_options().items():
        if name not in ("arithmetic", "as_json", *allowed):
            raise BadInput(f"{option} measures {sentence}")


def _numbers(option: str, text: str | None, parse: Any) -> tuple[Any, ...]:
    if text is None:
        return ()
    found = [parse(part.strip()) for part in text.split(",")]
    if any(each is None for each in found):
        raise BadInput(f"{option} is {text[:80]!r}; write numbers with commas, as 1,2,4")
    return tuple(found)


def _measure_this_machine(arithmetic: str, as_json: bool) -> None:
    import dataclasses

    from flashstill.console import Console
    from flashstill.distill.models.arithmetic import decided, in_use
    from flashstill.facts import load, user_directory
    from flashstill.facts.csv_files import to_csv
    from flashstill.files import write_text
    from flashstill.measure import measure_machine
    from flashstill.units import show

    path = user_directory() / "this-machine.csv"
    console = Console()
    chosen = in_use(decided(arithmetic))
    console.say(f"models run in {chosen} here")
    rows = measure_machine(load(), console, chosen)
    write_text(path, to_csv(rows))
    if as_json:
        print_json(
            {
                "path": str(path),
                "arithmetic": dataclasses.asdict(chosen),
                "facts": [dataclasses.asdict(row) for row in rows],
            }
        )
        return
    for row in rows:
        condition = f", {row.condition}" if row.condition else ""
        click.echo(f"{row.quantity}{condition}: {show(row.value, row.unit)} ({row.kind})")
    click.echo(f"Written to {path}", err=True)
