"""The command that evaluates models on text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flashstill.cli.documents import json_option, print_json
from flashstill.cli.learning_options import ARITHMETIC, ARITHMETIC_HELP
from flashstill.cli.options import COUNT, writable

if TYPE_CHECKING:
    from flashstill.records import QualityRecord, Record

METRICS = (
    "bits_per_byte",
    "perplexity",
    "accuracy",
    "calibration_error",
    "kl_to_teacher",
    "agreement",
    "gap_closed",
    "kl_on_spans",
    "agreement_on_spans",
)  # evaluate/entrants.py, evaluate/across.py
ON_SPANS = {"kl_on_spans": "KL on spans", "agreement_on_spans": "agreement on spans"}
HEADINGS = {
    "bits_per_byte": "bits/byte", "calibration_error": "calibration error", "kl_to_teacher": "KL to teacher",
    "gap_closed": "gap closed", **ON_SPANS,
}  # fmt: skip


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--data", "texts", multiple=True, metavar="TEXT",
    help="cpython-docs, cpython-code, or a file or directory of text or chats (docs/chat.md); NAME=TEXT; repeatable.",
)  # fmt: skip
@click.option("--teacher", default="", help="The model that others are compared with: KL, agreement, gap closed.")
@click.option("--control", default="", help="The student trained on hard labels, for the gap closed.")
@click.option("--base", default="", help="Base model of the LoRA adapters among them, if they name none on this disk.")
@click.option(
    "--metric", "metrics", multiple=True, type=click.Choice(METRICS),
    help="This metric only; repeatable [default: all that can be compared].",
)  # fmt: skip
@click.option(
    "--tokens", type=COUNT, default=32_768, show_default=True, help="Read of each text, at 4 characters a token."
)
@click.option("--window", "window_tokens", type=COUNT, default=512, show_default=True, help="Tokens of one pass.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of excerpts and intervals."
)
@click.option("--arithmetic", type=click.Choice(ARITHMETIC), default="auto", show_default=True, help=ARITHMETIC_HELP)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), callback=writable, default=None,
    help="A file of records, JSON lines; what was finished is kept beside it until all is done.",
)  # fmt: skip
@click.option("--chat-template", default="", metavar="FILE", help="Of chats [default: each model's own].")
@click.option(
    "--task", "tasks", multiple=True, metavar="TASK",
    help="A task file of lm-eval (YAML) or a task that it ships, gym:NAME of reasoning-gym, or a .toml with a table"
    " [task]; repeatable.",
)  # fmt: skip
@click.option(
    "--items", type=COUNT, default=None, help="At most so many items of each task [default: all; 100 of gym:NAME]."
)
@click.option(
    "--attempts", type=COUNT, default=0, help="At each problem of gym:NAME or a [task]: best of N, majority of N."
)
@click.option("--chat", is_flag=True, help="Ask the questions of tasks through each model's chat template.")
@click.option("--allow-task-code", is_flag=True, help="Let task files run the Python code that they name.")
@json_option
def evaluate(
    models: tuple[str, ...],
    texts: tuple[str, ...],
    teacher: str,
    control: str,
    base: str,
    metrics: tuple[str, ...],
    tokens: int,
    window_tokens: int,
    seed: int,
    arithmetic: str,
    out: Path | None,
    chat_template: str,
    tasks: tuple[str, ...],
    items: int | None,
    attempts: int,
    chat: bool,
    allow_task_code: bool,
    as_json: bool,
) -> None:
    """Evaluate models on text and tasks: bits per byte, accuracy, calibration, KL to a teacher, with intervals.

    MODEL is a Hugging Face directory, a LoRA adapter, a .gguf file, or the name of a packaged model; NAME=MODEL gives
    it a name.
    """
    from flashstill.console import Console
    from flashstill.errors import BadInput
    from flashstill.evaluate import evaluate_models
    from flashstill.outputs import STANDARD
    from flashstill.records import to_line

    if not texts and not tasks:
        raise BadInput("give a text with --data, or a task with --task")
    evaluation = evaluate_models(
        models, texts, teacher=teacher, control=control, base=base, metrics=metrics, tokens=tokens,
        window_tokens=window_tokens, seed=seed, arithmetic=arithmetic, out=out, chat_template=chat_template,
        tasks=tasks, items=items, attempts=attempts, chat=chat, allow_task_code=allow_task_code, progress=Console(),
    )  # fmt: skip
    if as_json:
        records = [json.loads(to_line(record)) for record in evaluation.records]
        used = dataclasses.asdict(evaluation.arithmetic)
        warnings = [dataclasses.asdict(warning) for warning in evaluation.warnings]
        tables = [dataclasses.asdict(table) for table in evaluation.reliability]
        print_json({
            "records": records, "left_out": evaluation.left_out, "arithmetic": used, "warnings": warnings,
            "reliability": tables,
        })  # fmt: skip
    elif out != STANDARD:
        _print_quality(evaluation.records, evaluation.tasks)
    for warning in evaluation.warnings:
        click.echo(f"warning: {warning.message}", err=as_json or out == STANDARD)
    if out not in (None, STANDARD):
        click.echo(f"Records: {out}", err=True)


def _print_quality(records: Sequence[Record], tasks: Sequence[str]) -> None:
    """Print one table per text or task with one row per model; each figure has its 95 % interval."""
    from flashstill.printing import print_table
    from flashstill.records import NO_INTERVAL, QualityRecord

    quality = [record for record in records if isinstance(record, QualityRecord)]
    for domain in dict.fromkeys(record.domain for record in quality):
        here = {(record.model, record.metric): record for record in quality if record.domain == domain}
        models = dict.fromkeys(model for model, _ in here)
        metrics = sorted(dict.fromkeys(metric for _, metric in here), key=_order)
        documents = next(iter(here.values())).documents
        count = NO_INTERVAL if documents == 1 else f"{documents:,} {'items' if domain in tasks else 'documents'}"
        heading = [f"{domain}, {count}", *(HEADINGS.get(metric, metric) for metric in metrics)]
        rows = [[model, *(_figure(here.get((model, metric))) for metric in metrics)] for model in models]
        print_table([heading, *rows], ("accuracy", "perplexity", "agreement"))


def _order(metric: str) -> int:
    """Place of a metric among the columns; those of tasks keep their order, at the end."""
    return METRICS.index(metric) if metric in METRICS else len(METRICS)


def _figure(record: QualityRecord | None) -> str:
    if record is None:
        return "-"
    digits = 1 if record.value >= 100 else 2 if record.value >= 10 else 4
    if record.low is None:  # the heading says why, or it is a figure of the whole corpus
        return f"{record.value:.{digits}f}"
    return f"{record.value:.{digits}f} ({record.low:.{digits}f} to {record.high:.{digits}f})"
