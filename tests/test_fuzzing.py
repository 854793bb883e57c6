"""The fuzzer notices what it is there for, makes the same inputs from the same seed, and leaves nothing behind."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import flashstill.cli
from flashstill.plan.prediction import PREDICTION_FIELDS
from tests.fuzzing import costs, mangle
from tests.fuzzing.corpus import Corpus
from tests.fuzzing.sandbox import GIB, Bounds, Outcome, Trial, faults, run

TRIAL = Trial(kind="flags", arguments=("predict", "--json"))


def outcome(**changes: Any) -> Outcome:
    good: dict[str, Any] = {
        "code": 0, "stdout": '{"tpot_s": 0.1}', "stderr": "", "seconds": 0.1, "peak_bytes": GIB, "timed_out": False,
    }  # fmt: skip
    return Outcome(**{**good, **changes})


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"code": 1}, "exit code 1"),
        ({"code": -9}, "exit code -9"),
        ({"timed_out": True}, "still at work"),
        ({"peak_bytes": 5 * GIB}, "5.0 GiB"),
        ({"stderr": "Traceback (most recent call last):"}, "a traceback"),
        ({"stderr": "x.py:3: RuntimeWarning: overflow"}, "a library's warning"),
        ({"code": 2, "stdout": ""}, "0 sentences"),
        ({"code": 2, "stdout": "", "stderr": "flashstill: a\nflashstill: b"}, "2 sentences"),
        ({"stdout": '{"tpot_s": NaN}'}, "not one JSON document: NaN"),
        ({"stdout": '{"a": 1}\n{"b": 2}'}, "not one JSON document"),
        ({"stdout": '{"points": [{"usd": -1}]}'}, "a negative amount at .points[].usd"),
    ],
)
def test_what_it_notices(changes: dict[str, Any], found: str) -> None:
    assert not list(faults(TRIAL, outcome(), Bounds()))
    assert any(each.startswith(found) for each in faults(TRIAL, outcome(**changes), Bounds()))


def test_it_reads_texts_and_tables_too(tmp_path: Path) -> None:
    plain = Trial(kind="flags", arguments=("predict",))
    assert list(faults(plain, outcome(stdout="time per output token  nan s"), Bounds()))
    assert not list(faults(plain, outcome(stdout="note: x = -inf"), Bounds())), "notes repeat what was given"
    table = Trial(kind="cases", arguments=("predict",), answers=tmp_path / "out.csv")
    cells = dict.fromkeys(PREDICTION_FIELDS, "") | {"fits": "true", "tpot_s": "-0.5"}
    table_text = "\n".join(",".join(row) for row in (["tpot_s", *cells], ["nan", *cells.values()]))
    (tmp_path / "out.csv").write_text(table_text, encoding="utf-8")
    assert list(faults(table, outcome(stdout=""), Bounds())) == ["tpot_s is -0.5"], "the user's own column is theirs"


@pytest.mark.slow
def test_a_trial_is_a_process_with_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run(Trial(kind="flags", arguments=("explian",)), tmp_path, Bounds())
    assert ran.code == 2
    assert "the nearest known: explain" in ran.stderr

    def broken(arguments: Sequence[str] | None = None) -> None:
        bytearray(8 * GIB)

    monkeypatch.setattr(flashstill.cli, "main", broken)
    ran = run(TRIAL, tmp_path, Bounds(bytes=GIB))
    assert ran.code == 1
    assert "MemoryError" in ran.stderr
    monkeypatch.setattr(flashstill.cli, "main", lambda arguments: endless())
    assert run(TRIAL, tmp_path, Bounds(seconds=0.2)).timed_out


@pytest.mark.slow
def test_an_interruption_is_heard_wherever_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that is depends on the pace of the machine, and Python drops what is raised in some places."""

    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass

    def work(arguments: Sequence[str] | None = None) -> None:
        Dying()
        try:
            time.sleep(60.0)
        except KeyboardInterrupt:
            sys.exit(130)

    monkeypatch.setattr(flashstill.cli, "main", work)
    ran = run(TRIAL, tmp_path, Bounds(seconds=120.0))
    assert (ran.code, ran.stderr) == (130, "")


def endless() -> None:
    while True:
        pass


def test_the_same_seed_makes_the_same_inputs(tmp_path: Path) -> None:
    corpus = Corpus(folder=tmp_path, configs={"llama": {"model_type": "llama", "hidden_size": 64, "rope": {"a": [1]}}})
    for make in (costs.configs, costs.cases, costs.facts, costs.edits, costs.flags):
        made = []
        for number in range(2):
            folder = tmp_path / f"{make.__name__}{number}"
            folder.mkdir()
            trial = make(random.Random(5), corpus, folder)
            files = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            made.append(([each.replace(str(folder), "") for each in trial.arguments], files))
        assert made[0] == made[1]
    assert mangle.document(random.Random(1), {"a": 1, "b": [2]}) != {"a": 1, "b": [2]}
