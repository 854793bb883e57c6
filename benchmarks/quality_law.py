#!/usr/bin/env python3
"""Small models trained from scratch, for a law of their loss: does a law fitted on five runs predict the sixth?

Every run is a `flashstill distill` of the same text (the source code of Python's standard library, which every
installation has), window by window once: no run sees a token twice.  Three designs, each of five runs and the ones
to predict:

size        learns from the text; the sixth is twice the size of the largest of the five, on as many tokens
tokens      learns from the text; the sixth learns from twice the tokens of any of the five
distilled   learns the distribution of one teacher (the sixth of `size`); the sixth is twice the largest's size

Nothing is tuned from run to run.  Shape: blocks of `width` dimensions, heads of 16, an FFN of 8/3 of the width, tied
embeddings, weights drawn with a standard deviation of width^-1/2 (0.02 starves narrow models: docs/log.md).
Learning rate and tokens per step follow published rules:

    rate = 0.3118 C^-0.1250, C = 6 N D            tokens per step = 0.58 D^0.571

The first: Bi et al. 2024, "DeepSeek LLM", section 3.1 (N: parameters; D: tokens of the run).  The second: Li et al.
2025, "Predictable Scale: Part I", rounded to whole windows.

    .venv/bin/python benchmarks/quality_law.py --out DIR                   # half an hour of one core; resumes
    .venv/bin/python benchmarks/quality_law.py --out DIR --records docs/evidence/quality-law.jsonl

The last line of stdout is JSON: for every run its parameters, tokens and loss in nats per token.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashstill.arch.adapter.edit import small_llama
from flashstill.console import Console
from flashstill.files import write_text
from flashstill.recipes.distillation import DistillRecipe, LossRecipe, ShapeRecipe
from flashstill.recipes.signals import SignalRecipe
from flashstill.recipes.tables import TextRecipe
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.recipes.training import TrainTable
from flashstill.records import ModelRecord, QualityRecord, read_records, write_records
from flashstill.runs.distillation import run_distillation
from flashstill.runs.workdir import Workdir

DATA, VOCABULARY, WINDOW, SEED = "cpython-code", 512, 128, 0
TEXT = TextRecipe(window_tokens=WINDOW, train_tokens=2_080_000, heldout_tokens=24_576, out_of_domain_tokens=8_192)
SHAPES = {"43k": (32, 2), "80k": (48, 2), "184k": (64, 3), "381k": (96, 3), "492k": (96, 4), "1m": (128, 5)}
"""width and blocks of each size"""
QUARTER, HALF, ONE, TWO = 256_000, 512_000, 1_024_000, 2_048_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training. teacher: name of the run that it learns from; empty: from the text. seed: weights and order."""

    size: str
    tokens: int
    teacher: str = ""
    seed: int = SEED

    @property
    def name(self) -> str:
        """As `492k-512k`, `492k-512k-distilled` or `43k-512k-seed1`."""
        seed = f"-seed{self.seed}" if self.seed != SEED else ""
        return f"{self.size}-{self.tokens // 1000}k{'-distilled' if self.teacher else ''}{seed}"


def labels(*pairs: tuple[str, int]) -> list[Run]:
    return [Run(size=size, tokens=tokens) for size, tokens in pairs]


TEACHER = Run(size="1m", tokens=ONE)
FIVE = (("184k", QUARTER), ("184k", ONE), ("492k", QUARTER), ("492k", HALF))
SIZE = labels(("43k", ONE), *FIVE, ("1m", ONE))
TOKENS = labels(("43k", HALF), *FIVE, ("184k", TWO))
TAUGHT = (("43k", QUARTER), ("43k", ONE), ("80k", HALF), ("184k", QUARTER), ("184k", HALF), ("381k", HALF))
DISTILLED = [Run(size=size, tokens=tokens, teacher=TEACHER.name) for size, tokens in TAUGHT]
DESIGNS = {"size": SIZE, "tokens": TOKENS, "distilled": DISTILLED}
"""the last of each is the one to predict"""
REPEATS = [Run(size="43k", tokens=QUARTER, seed=seed) for seed in (0, 1, 2)]
"""the same again with other first weights and another order of the text: what two equal runs differ by"""


def runs() -> list[Run]:
    """Every run once, a teacher before its students."""
    return list({run.name: run for run in (*SIZE, *TOKENS, *DISTILLED, *REPEATS)}.values())


def shape(size: str) -> dict[str, Any]:
    """The config.json fields of a size."""
    width, blocks = SHAPES[size]
    return small_llama(width=width, depth=blocks, context=512)


def settings(parameters: int, tokens: int) -> tuple[float, int]:
    """Learning rate, and windows per step, of a run."""
    return 0.3118 * (6.0 * parameters * tokens) ** -0.1250, max(1, round(0.58 * tokens**0.571 / WINDOW))


def recipe(run: Run, place: Path, parameters: int, arithmetic: str) -> DistillRecipe:
    """The distillation of a run."""
    rate, windows = settings(parameters, run.tokens)
    teacher = Workdir.arm(place, run.teacher, run.size).student if run.teacher else place / "untrained"
    learns: dict[str, Any] = (
        {"losses": (LossRecipe(),), "signals": SignalRecipe(kind="hidden")}
        if run.teacher
        else {"losses": (), "hard_weight": 1.0, "signals": SignalRecipe(kind="none")}
    )
    return DistillRecipe(
        name=run.name, teachers=(TeacherRecipe(model=str(teacher)),), data=DATA, out_of_domain="cpython-docs",
        seed=run.seed, student=ShapeRecipe(kind="scratch", config=str(place / f"{run.size}.json")), text=TEXT,
        train=TrainTable(
            tokens=run.tokens, windows_per_step=windows, learning_rate=rate, checkpoint_every_steps=200,
            arithmetic=arithmetic,
        ),
        **learns,
    )  # fmt: skip


def untrained(place: Path) -> int:
    """Leave a tokenizer learnt from the training text, with a small untrained model around it; its vocabulary."""
    from flashstill.distill.data.splits import divided
    from flashstill.distill.data.vocabulary import learn_tokenizer
    from flashstill.distill.models import load_tokenizer, save_model
    from flashstill.distill.students import from_config

    if not (place / "untrained").is_dir():
        _, training = divided(DATA, TEXT.heldout_tokens, WINDOW, SEED)
        tokenizer = learn_tokenizer((document.text for document in training), VOCABULARY)
        save_model(from_config(shape("43k"), len(tokenizer), SEED), tokenizer, place / "untrained")
    return len(load_tokenizer(place / "untrained"))


def counted(size: str, vocabulary: int) -> int:
    """Parameters of a size, embeddings included (they are tied)."""
    from flashstill.distill.students import from_config

    return sum(weight.numel() for weight in from_config(shape(size), vocabulary, SEED).parameters())


def trained(run: Run, place: Path, parameters: int, arithmetic: str, console: Console) -> list[Any]:
    """Train a run, or find it done; its records."""
    signals = f"signals-{run.teacher or 'untrained'}"
    start = f"{run.size}-seed{run.seed}"
    workdir = Workdir.arm(place, run.name, start, signals)
    summary = run_distillation(recipe(run, place, parameters, arithmetic), workdir, console)
    quality = [
        dataclasses.replace(record, model=run.name)
        for record in read_records(workdir.out / "records.jsonl")
        if isinstance(record, QualityRecord) and record.model == "student"
        and (run.teacher or record.metric in ("bits_per_byte", "perplexity"))
    ]  # fmt: skip
    model = ModelRecord(
        model=run.name, role="student" if run.teacher else "control", of=run.name, parameters=parameters,
        layers=SHAPES[run.size][1], training_tokens=run.tokens, training_s=summary["training_s"], path=run.name,
        training_steps=summary["steps"], kind="scratch", regime="offline",
        arithmetic="{precision} arithmetic, {threads} thread".format(**summary["arithmetic"]),
    )  # fmt: skip
    return [model, *quality]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory of the runs; continued if it has some")
    parser.add_argument("--records", type=Path, help="write the records of all runs there, as JSON lines")
    parser.add_argument("--arithmetic", default="fp32", choices=("auto", "bf16", "fp32"))
    parser.add_argument("--only", help="run only this one, by its name")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    vocabulary = untrained(asked.out)
    records: list[Any] = []
    for size in SHAPES:
        write_text(asked.out / f"{size}.json", json.dumps(shape(size), indent=1))
    for run in runs():
        if asked.only in (None, run.name):
            parameters = counted(run.size, vocabulary)
            records += trained(run, asked.out, parameters, asked.arithmetic, Console())
            print(json.dumps(found(records)[-1]), file=sys.stderr, flush=True)
    if asked.records:
        write_records(asked.records, records)
    print(json.dumps({"runs": found(records)}))


def found(records: list[Any]) -> list[dict[str, Any]]:
    """Parameters, tokens and held-out loss of every run."""
    loss = {
        record.model: math.log(record.value)
        for record in records
        if isinstance(record, QualityRecord) and (record.domain, record.metric) == ("heldout", "perplexity")
    }
    return [
        {"run": model.model, "parameters": model.parameters, "tokens": model.training_tokens,
         "nats_per_token": round(loss[model.model], 4), "training_s": model.training_s}
        for model in records if isinstance(model, ModelRecord)
    ]  # fmt: skip


if __name__ == "__main__":
    main()
