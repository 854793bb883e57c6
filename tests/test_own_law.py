"""A law fitted on five of the project's own small runs foretells a sixth of twice the size or tokens.

docs/evidence/quality-law.jsonl is what benchmarks/quality_law.py left: models of 43,000 to 1.1 million parameters,
trained from scratch on one text, no token twice.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest

from flashstill.quality import Law, posterior
from flashstill.quality.fit import fitted
from flashstill.quality.own_runs import Run, Runs
from flashstill.records import ModelRecord, QualityRecord, read_records

RECORDS = Path(__file__).parents[1] / "docs" / "evidence" / "quality-law.jsonl"
DESIGNS = {
    "size": ("43k-1024k", "184k-256k", "184k-1024k", "492k-256k", "492k-512k", "1m-1024k"),
    "tokens": ("43k-512k", "184k-256k", "184k-1024k", "492k-256k", "492k-512k", "184k-2048k"),
    "distilled": (
        "43k-256k-distilled", "43k-1024k-distilled", "80k-512k-distilled", "184k-256k-distilled",
        "184k-512k-distilled", "381k-512k-distilled",
    ),
}  # fmt: skip
"""five runs, and the sixth that they foretell"""
TEACHER = "1m-1024k"
LEVEL = 0.95
"""of the interval, as of every interval of a record"""
NARROW_LEVEL, WIDEST = 0.8, 0.1
"""an interval of this level is at most so wide, as a share of the loss; it may miss one run of five"""


@cache
def runs() -> dict[str, Run]:
    """Held-out loss of every run, nats per token."""
    records = read_records(RECORDS)
    losses = {
        record.model: math.log(record.value)
        for record in records
        if isinstance(record, QualityRecord) and (record.domain, record.metric) == ("heldout", "perplexity")
    }
    teacher = losses[TEACHER]
    return {
        model.model: Run(
            parameters=model.parameters, tokens=model.training_tokens, loss=losses[model.model], model=model.model,
            teacher_loss=teacher if model.role == "student" else None,
        )
        for model in records
        if isinstance(model, ModelRecord)
    }  # fmt: skip


def law_of(design: str) -> Law:
    return fitted(Runs(runs=tuple(runs()[name] for name in DESIGNS[design][:-1])))


def test_the_sixth_is_twice_the_size_or_the_tokens_of_the_five() -> None:
    for design, names in DESIGNS.items():
        *five, sixth = (runs()[name] for name in names)
        amount = "tokens" if design == "tokens" else "parameters"
        assert getattr(sixth, amount) >= 2 * max(getattr(run, amount) for run in five)


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_five_runs_foretell_the_sixth(design: str) -> None:
    check_the_sixth(design)


@pytest.mark.slow
def test_few_draws_foretell_it_already(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ANNEALED", "_SETTLED", "_KEPT"):
        monkeypatch.setattr(posterior, name, 56)
    check_the_sixth("tokens")


def check_the_sixth(design: str) -> None:
    """It lies inside a narrow interval."""
    sixth, law = runs()[DESIGNS[design][-1]], law_of(design)
    found = law.interval(sixth.parameters, sixth.tokens, level=LEVEL)
    assert found is not None
    low, high = (float(end) for end in found)
    assert low <= sixth.loss <= high
    narrow = law.interval(sixth.parameters, sixth.tokens, level=NARROW_LEVEL)
    assert narrow is not None
    assert float(narrow[1] - narrow[0]) / sixth.loss < WIDEST
