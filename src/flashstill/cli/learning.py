"""Commands that distil, measure and report."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashstill.cli.documents import json_option, print_json
from flashstill.cli.learning_options import arithmetic_option, log_option
from flashstill.cli.options import DIRECTORY
from flashstill.errors import BadInput
from flashstill.verdicts import in_words, verdict

if TYPE_CHECKING:
    from flashstill.distilled import StudyResult


@click.command()
@click.argument("recipe")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Directory of the results; resumed if begun."
)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="This seed only [default: the recipe's].")
@arithmetic_option
@log_option
@json_option
def run(recipe: str, out: Path, seed: int | None, arithmetic: str | None, log: tuple[str, ...], as_json: bool) -> None:
    """Distil, measure and price the family of a family.toml, or test a claim with several seeds.

    RECIPE is a file, or the name of a built-in family or study.
    """
    _run(recipe, out, as_json, seed=seed, arithmetic=arithmetic, log=log)


def _run(recipe: str, out: Path, as_json: bool, **asked: Any) -> None:
    """Run a recipe as `flashstill.run` does, with progress, and print what came out."""
    from flashstill import distilling
    from flashstill.console import Console
    from flashstill.distilled import StudyResult

    command = shlex.join(["flashstill", *sys.argv[1:]])
    done = distilling.run_recipe(recipe, out, **asked, progress=Console(), command=command)
    if isinstance(done, StudyResult):
        _print_study(done, as_json)
    elif as_json:
        records = str(out / "records.jsonl")
        print_json({"out": str(out), "report": str(done.report), "findings": list(done.findings), "records": records})
    else:
        for line in done.findings:
            click.echo(line)
        click.echo(f"Report: {done.report}", err=True)


def _print_study(study: StudyResult, as_json: bool) -> None:
    if as_json:
        print_json(study.as_dict())
        return
    for line in study_lines(study.as_dict()):
        click.echo(line)
    click.echo(f"Report: {study.out / 'report.html'}, numbers: {study.out / 'summary.json'}", err=True)


def study_lines(summary: dict[str, Any]) -> list[str]:
    """Text table of a study's summary; "nothing" is printed for a ratio whose denominator is zero."""
    width = max(len(name) for name in summary["figures"])
    lines = [f"{'':<{width}}{'value':>9}   {'95 % over seeds':<18}bar"]
    for name, figure in summary["figures"].items():
        reach = "" if figure["low"] is None else f"{figure['low']:.4f} to {figure['high']:.4f}"
        bar = f"{figure['bar']:g} {in_words(verdict(figure, summary['figures']))}" if "bar" in figure else ""
        value = "nothing" if figure["value"] is None else f"{figure['value']:.4f}"
        lines.append(f"{name:<{width}}{value:>9}   {reach:<18}{bar}".rstrip())
    return lines


@click.command()
@click.option(
    "--minutes", type=click.FloatRange(min=0.1), default=None, help="About how long it may take [default: 10]."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Directory of the results."
)
@arithmetic_option
@json_option
def demo(minutes: float | None, out: Path, arithmetic: str | None, as_json: bool) -> None:
    """Run the built-in family: a real 135M model, distilled, measured and priced.

    It measures this machine first and does as much as fits into the time.
    """
    _run("demo", out, as_json, minutes=minutes, arithmetic=arithmetic)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Directory of the results; resumed if begun."
)
@click.option(
    "--build-signals", is_flag=True, help="Only run the teachers and keep their signals, or the text they write."
)
@click.option("--shard", default="", metavar="I/N", help="With --build-signals: the I-th of N processes, from 0.")
@arithmetic_option
@log_option
@json_option
def distill(
    recipe: Path,
    out: Path,
    build_signals: bool,
    shard: str,
    arithmetic: str | None,
    log: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train one student on its teachers, as a distill.toml says; under torchrun on many devices."""
    from flashstill import distilling
    from flashstill.console import Console

    summary: Mapping[str, Any]
    if build_signals:
        summary = distilling.build_signals(recipe, out, share_of(shard), arithmetic=arithmetic, progress=Console())
    elif shard:
        raise BadInput("--shard goes with --build-signals; under torchrun processes share the work by themselves")
    else:
        summary = distilling.distill(recipe, out, arithmetic=arithmetic, log=log, progress=Console()).summary
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print_json(summary)
        return
    for line in _signal_lines(summary) if build_signals else student_lines(summary):
        click.echo(line)


def share_of(text: str) -> tuple[int, int]:
    """Parse "I/N" into (I, N); "" gives (0, 1); BadInput for anything else."""
    if not text:
        return 0, 1
    parts = text.split("/")
    if len(parts) == 2 and all(part.isdecimal() for part in parts) and int(parts[0]) < int(parts[1]):
        return int(parts[0]), int(parts[1])
    raise BadInput(f"--shard is {text!r}; give I/N with I below N, as 0/4")


def _signal_lines(signals: Mapping[str, Any]) -> list[str]:
    lines = []
    for teacher, built in signals.items():
        rate = f"{built['tokens_per_s']:,.0f} tokens/s" if built["tokens_per_s"] else "all there already"
        size = f"{built['bytes'] / 1e6:,.1f} MB, {built['bytes_per_token']:,.0f} bytes a token"
        what = "" if built["kind"] == "text" else f"{built['kind']} signals, "
        lines.append(f"{teacher}: {what}{size}, {rate}")
    return lines


def student_lines(summary: Mapping[str, Any]) -> list[str]:
    """The summary of a distillation as text: quality by model and text, sizes, training, and what its budget gave."""
    from flashstill.records import NO_INTERVAL
    from flashstill.runs.budget import outcome_lines

    if "acceptance" in summary:
        return _draft_lines(summary)
    found = [against_teacher(each)[0] for domains in summary["quality"].values() for each in domains.values()]
    wide = max([9, *(len(kl) + 2 for kl in found)])
    lines = [f"{'':<10}{'domain':<16}{'bits/byte':>10}{'KL':>{wide}}{'agreement':>11}"]
    for model, domains in summary["quality"].items():
        for domain, metrics in domains.items():
            kl, agreement = against_teacher(metrics)
            lines.append(f"{model:<10}{domain:<16}{metrics['bits_per_byte'][0]:>10.4f}{kl:>{wide}}{agreement:>11}")
    sizes = summary["parameters"]
    share = f" ({sizes['student'] / sizes['teacher']:.0%} of the teacher's)" if "teacher" in sizes else ""
    how = f"{summary['arithmetic']['precision']} arithmetic, {summary['arithmetic']['threads']} threads"
    trained = f"trained in {summary['training_s']:,.0f} s at {summary['tokens_per_s']:,.0f} tokens/s ({how})"
    lines.append(f"{sizes['student']:,} parameters{share}, {trained}")
    texts = {domain: metrics for domains in summary["quality"].values() for domain, metrics in domains.items()}
    lines += [
        f"{domain}: {NO_INTERVAL}"
        for domain, metrics in texts.items()
        if any(low is None for _, low, _ in metrics.values())
    ]
    lines += _segment_lines(summary.get("segments", []))
    return [*lines, *outcome_lines(summary["budget"])] if "budget" in summary else lines


def against_teacher(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """KL to the teacher and agreement as text: of whole vocabularies, of a served teacher's top ids, or on spans."""
    for name, mark in (("kl_to_teacher", ""), ("kl_to_teacher_at_least", ">="), ("kl_on_spans", "spans ")):
        if name in metrics:
            agreement = metrics["agreement" if "agreement" in metrics else "agreement_on_spans"][0]
            return f"{mark}{metrics[name][0]:.4f}", f"{agreement:.1%}"
    return "-", "-"


def _segment_lines(segments: Sequence[Mapping[str, int]]) -> list[str]:
    """Where a run went on under other conditions than it was begun in."""
    lines = []
    for before, now in itertools.pairwise(segments):
        names = [name for name in now if name not in ("from_step", "steps") and now[name] != before[name]]
        changed = ", ".join(f"{name} {now[name]:,} (was {before[name]:,})" for name in names)
        lines.append(
            f"from step {now['from_step']:,} on: {changed}; bits may differ from those of a run without the change"
        )
    return lines


def _draft_lines(summary: Mapping[str, Any]) -> list[str]:
    """A drafting head: acceptance by position of the initial and of the trained head."""
    records = summary["acceptance"]
    heading = "".join(f"{f'position {place + 1}':>12}" for place in range(records[0]["draft_tokens"]))
    lines = [f"{'draft':<24}{'temperature':>12}{heading}{'tokens/step':>13}"]
    for record in records:
        rates = "".join(f"{rate:>12.1%}" for rate in record["acceptance"])
        lines.append(f"{record['draft']:<24}{record['temperature']:>12g}{rates}{record['tokens_per_step']:>13.2f}")
    sizes, how = summary["parameters"], f"{summary['arithmetic']['precision']} arithmetic"
    trained = f"trained in {summary['training_s']:,.0f} s at {summary['tokens_per_s']:,.0f} tokens/s ({how})"
    return [*lines, f"{sizes['student']:,} parameters beside the target's, {trained}"]


@click.command()
@click.argument("out", type=DIRECTORY)
@json_option
def report(out: Path, as_json: bool) -> None:
    """Write report.html again from the records of a finished run."""
    from flashstill.report.page import write_report
    from flashstill.report.study import write_study_report

    try:
        names = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    except (OSError, ValueError) as error:
        raise BadInput(f"{out} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if "study.toml" in names:
        path = write_study_report(out)
    elif "family.toml" in names or "records.jsonl" in names:
        path = write_report(out)
    else:
        raise BadInput(f"{out} holds no records.jsonl and no study.toml; give the --out directory of a finished run")
    print_json({"report": str(path)}) if as_json else click.echo(str(path))
