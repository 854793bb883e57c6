"""Evaluates models on texts: bits per byte, perplexity, accuracy, calibration, KL to a teacher, agreement, gap closed.

Every model reads the same excerpts of each text (excerpts.py), one model at a time; a teacher is run once and its
hidden states are kept.  Each figure has a 95 % bootstrap interval over documents (intervals.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flashstill.arch.catalogue import read_config
from flashstill.distill.data.chats import Reading
from flashstill.distill.data.packing import Packed
from flashstill.distill.data.rows import Tally
from flashstill.distill.data.templates import renderer_of, template_of
from flashstill.distill.data.text import load_documents
from flashstill.distill.models.arithmetic import AUTO, Arithmetic, decided, in_use, shape_of
from flashstill.errors import BadInput, UnsupportedArchitecture
from flashstill.evaluate.across import on_spans, split_metrics
from flashstill.evaluate.calibration import CALIBRATION_ERROR, reliability
from flashstill.evaluate.entrants import (
    CONTROL,
    OF_TEACHER,
    TEACHER,
    Entrant,
    check_metrics,
    choose_metrics,
    find_entrants,
    named,
)
from flashstill.evaluate.excerpts import choose_excerpts, most_frequent_share, pack_excerpts, unknown_tokens
from flashstill.evaluate.gap import GAP_CLOSED, gap_closed, has_gap
from flashstill.evaluate.scoring import Scoring
from flashstill.evaluate.summary import PLAIN, Sums, metric_records
from flashstill.evaluate.tasks.running import TaskResults, TaskRun
from flashstill.evaluate.unfinished import Unfinished
from flashstill.outputs import STANDARD, check_writable, written_out
from flashstill.progress import Progress, Silent
from flashstill.records import QualityRecord, Record, to_line
from flashstill.reliability import Reliability
from flashstill.useful_range import RangeWarning, range_warnings

TOKENS, WINDOW_TOKENS = 32_768, 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """records: a ModelRecord for each model, then QualityRecords by text and model; left_out: metric -> why.

    warnings: scores at which a text does not tell models apart.  reliability: a table for each calibration error.
    tasks: domains that are tasks, of items instead of documents."""

    records: tuple[Record, ...]
    left_out: Mapping[str, str]
    arithmetic: Arithmetic
    warnings: tuple[RangeWarning, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    tasks: tuple[str, ...] = ()


def evaluate_models(
    models: Sequence[str] | Mapping[str, str],
    texts: Sequence[str] | Mapping[str, str] = (),
    *,
    teacher: str = "",
    control: str = "",
    base: str = "",
    metrics: Sequence[str] = (),
    tokens: int = TOKENS,
    window_tokens: int = WINDOW_TOKENS,
    seed: int = 0,
    arithmetic: str = AUTO,
    out: Path | None = None,
    chat_template: str = "",
    tasks: Sequence[str] = (),
    items: int | None = None,
    attempts: int = 0,
    chat: bool = False,
    allow_task_code: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate models on texts and tasks.

    models: directories, .gguf files or packaged names, by name or as "NAME=PATH"; texts: built-in corpora, files or
    directories of text, JSON, CSV, Parquet or Arrow, in the same way; of conversations the answers are
    scored, with the chat_template in a file or the model's own.  teacher: for KL, agreement and gap closed; control:
    the student trained on hard labels, for gap closed.  base: the base model of the LoRA adapters among the models, if
    not the ones that they name.  metrics: which ones, empty for all that can be compared token by token; KL and
    agreement with a teacher of another tokenizer are kl_on_spans and agreement_on_spans.  tokens: of each text, at 4
    characters a token; window_tokens: targets of one pass.  out: a file of records; beside it the scores of finished
    models are kept until all are done, so that an evaluation that was killed goes on.  tasks: files or names of
    lm-eval, gym:NAME, or files with a table [task] (evaluate/tasks); items: at most so many of each; attempts: at each
    problem of the latter two, beside the greedy one; chat: ask tasks through each model's chat
    template; allow_task_code: whether task files may run their own code.

    Raises BadInput for what cannot be found, read or compared.
    """
    shown, unfinished = progress or Silent(), _unfinished(out)
    _check_sizes(tokens, window_tokens)
    if not tasks:
        _check_no_task_options(items=items is not None, attempts=attempts, chat=chat, allow_task_code=allow_task_code)
    plain, spans = split_metrics(metrics, teacher)
    check_metrics(plain)  # before a model is unpacked
    entrants = find_entrants(named(models, "model"), teacher, control, shown, base)
    sources = named(texts, "text") if texts or not tasks else {}
    packed = _pack_texts(sources, entrants, tokens, window_tokens, seed, chat_template, shown)
    hashes = [{name: each.hash for name, each in by_model.items()} for by_model in packed.values()]
    chosen, left_out = choose_metrics(entrants, plain, hashes) if sources else ([], {})
    for metric, reason in left_out.items():
        shown.say(f"{metric} is left out: {reason}")
    used = in_use(decided(arithmetic, shape_of(entrants[0].directory)))
    shown.say(f"models run in {used}")
    answered = TaskResults()
    if tasks:  # before the texts: a task that cannot be run is told before hours of work
        run = TaskRun(
            entrants=entrants, items=items, attempts=attempts, may_run_code=allow_task_code, arithmetic=used, seed=seed,
            unfinished=unfinished, progress=shown, chat=chat, chat_template=chat_template,
        )  # fmt: skip
        answered = run.results(tasks)
    scoring = Scoring(
        entrants=entrants, texts=packed, arithmetic=used, unfinished=unfinished, progress=shown,
        compares_tokens=bool(set(chosen) & set(OF_TEACHER)),
    )  # fmt: skip
    sums = scoring.scores()
    quality, without_gap = _quality(entrants, sums, chosen, seed)
    if spans:
        sizes = tokens, window_tokens
        quality += on_spans(entrants, sources, packed, sizes, spans, used, seed, shown)
    quality += answered.records
    for reason in without_gap.values():
        shown.say(f"{GAP_CLOSED} is left out: {reason}")
    records: tuple[Record, ...] = (*(scoring.model_record(entrant) for entrant in entrants), *quality)
    if out is not None:
        with written_out(out) as text:
            text.writelines(f"{to_line(record)}\n" for record in records)
    unfinished.remove()
    return Evaluation(
        records=records,
        left_out={**left_out, **without_gap},
        arithmetic=used,
        warnings=range_warnings(quality, lambda model, domain: most_frequent_share(packed[domain][model])),
        reliability=_reliability(sums) if CALIBRATION_ERROR in chosen else (),
        tasks=answered.names,
    )


def _check_no_task_options(**options: object) -> None:
    """BadInput for an option of tasks that is given, or true, where there are no tasks."""
    ignored = [name for name, given in options.items() if given]
    if ignored:
        raise BadInput(f"{ignored[0]} is for tasks, and none is given")


def _unfinished(out: Path | None) -> Unfinished:
    """Storage of finished scores: beside the output file, if that is or will be a regular file."""
    if out is None or out == STANDARD or (out.exists() and not out.is_file()):
        return Unfinished(None)
    check_writable(out)
    return Unfinished(out)


def _check_sizes(tokens: int, window_tokens: int) -> None:
    if window_tokens < 2 or tokens < window_tokens:
        raise BadInput(
            f"a text of {tokens:,} tokens does not fill a window of {window_tokens:,} (2 or more); give other"
            " --tokens or --window"
        )


def _pack_texts(
    sources: Mapping[str, str],
    entrants: Sequence[Entrant],
    tokens: int,
    window_tokens: int,
    seed: int,
    chat_template: str,
    shown: Progress,
) -> dict[str, dict[str, Packed]]:
    """[domain][model] -> the excerpts of a text in the model's tokens."""
    for entrant in entrants if sources else ():
        _check_context(entrant, window_tokens)
    packed_texts: dict[str, dict[str, Packed]] = {}
    for domain, source in sources.items():
        tally = Tally()
        excerpts = choose_excerpts(load_documents(source, tally), tokens, window_tokens, seed)
        characters = sum(len(excerpt.text) for excerpt in excerpts)
        shown.say(f"{domain}: {characters:,} characters of {len(excerpts):,} documents")
        packed_texts[domain] = {}
        for entrant in entrants:
            with _reading(entrant, chat_template, len(excerpts)) as reading:
                packed = pack_excerpts(excerpts, reading, window_tokens)
            for line in (*reading.tally.lines(), *(tally.lines() if entrant is entrants[0] else ())):
                shown.say(f"{domain}: {line}")
            packed_texts[domain][entrant.name] = packed
            if count := unknown_tokens(packed, entrant.tokenizer):
                shown.say(f"{entrant.name} does not know {count:,} tokens of it: its bits per byte are too low")
    return packed_texts


@contextlib.contextmanager
def _reading(entrant: Entrant, chat_template: str, documents: int) -> Iterator[Reading]:
    """How a model reads conversations: with its own chat template, unless another is given."""
    with renderer_of(template_of(entrant.tokenizer, chat_template)) as renderer:
        yield Reading(tokenizer=entrant.tokenizer, renderer=renderer, named=entrant.name, tally=Tally(good=documents))


def _check_context(entrant: Entrant, window_tokens: int) -> None:
    try:
        context = read_config(entrant.directory / "config.json", entrant.name).context
    except UnsupportedArchitecture:  # unsupported by the cost model, but it can be evaluated
        return
    if window_tokens > context:
        raise BadInput(
            f"windows of {window_tokens:,} tokens are longer than the {context:,} that {entrant.name} was made for;"
            f" give --window {context}"
        )


def _reliability(sums: Mapping[tuple[str, str], Sums]) -> tuple[Reliability, ...]:
    """A table for each text and model. sums: (domain, model) -> document sums."""
    return tuple(reliability(each[:, len(PLAIN) :], name, domain) for (domain, name), each in sums.items())


def _quality(
    entrants: Sequence[Entrant], sums: Mapping[tuple[str, str], Sums], metrics: Sequence[str], seed: int
) -> tuple[list[QualityRecord], dict[str, str]]:
    """Records by text and model, and reasons for missing gap closed. sums: (domain, model) -> document sums."""
    records: list[QualityRecord] = []
    without_gap: dict[str, str] = {}
    plain = [metric for metric in metrics if metric != GAP_CLOSED]
    for domain in dict.fromkeys(domain for domain, _ in sums):
        for entrant in entrants if plain else ():
            records += metric_records(sums[domain, entrant.name], plain, entrant.name, domain, seed)
        if GAP_CLOSED not in metrics:
            continue
        best, base = sums[domain, TEACHER], sums[domain, CONTROL]
        if not has_gap(best, base, seed):
            without_gap[f"{GAP_CLOSED} on {domain}"] = f"the teacher is not better than the control on {domain} text"
            continue
        names = [entrant.name for entrant in entrants if entrant.role not in (TEACHER, CONTROL)]
        records += [gap_closed(sums[domain, name], best, base, name, domain, seed) for name in names]
    return records, without_gap
