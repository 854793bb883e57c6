"""`flashstill quality` and `fs.quality_law`: one answer, its refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import flashstill as fs
from flashstill.cli import main
from flashstill.quality import posterior, published
from tests.commands import refuse


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    main(["quality", *arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_the_command_and_the_function_agree(capsys: pytest.CaptureFixture[str]) -> None:
    document = told(capsys, "busbridge-2025", "--parameters", "1B", "--tokens", "20G", "--teacher-loss", "2.0")
    law = fs.quality_law("busbridge-2025")
    assert document["schema"] == "flashstill.quality/1"
    assert document["prediction"] == law.predict(1e9, 2e10, teacher_loss=2.0).as_dict() | {
        "conditions": document["prediction"]["conditions"]
    }
    assert document["law"] == law.as_dict()
    assert document["optimum"] is None
    assert any("unverified" in note for note in document["prediction"]["notes"])


def test_what_is_left_out_is_solved_for(capsys: pytest.CaptureFixture[str]) -> None:
    law = published("besiroglu-2024")
    document = told(capsys, "besiroglu-2024", "--parameters", "1e9", "--loss", "2.4")
    assert document["prediction"]["tokens"] == pytest.approx(float(law.tokens_for(2.4, 1e9)))
    document = told(capsys, "besiroglu-2024", "--tokens", "1e11", "--loss", "2.4")
    assert document["prediction"]["parameters"] == pytest.approx(float(law.parameters_for(2.4, 1e11)))
    document = told(capsys, "besiroglu-2024", "--parameters", "30B", "--tokens", "600e9", "--inference-tokens", "10T")
    optimum = document["optimum"]
    assert optimum["parameters"] < 30e9
    assert 0 < optimum["saved_ratio"] < 1
    assert law.loss(optimum["parameters"], optimum["tokens"]) == pytest.approx(document["prediction"]["loss"], rel=1e-6)
    requests = ("--requests", "1e9", "--isl", "4k", "--osl", "1k", "--output-flop-cost", "10")
    document = told(capsys, "besiroglu-2024", "--loss", "2.1", *requests)
    served = document["optimum"]["serving_flops"] / (2 * document["optimum"]["parameters"])
    assert served == pytest.approx(1e9 * (4e3 + 10 * 1e3))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("besirogli",), "nearest known: besiroglu-2024"),
        (("besiroglu-2024", "--parameters", "1B"), "a loss needs --parameters and --tokens"),
        (("besiroglu-2024", "--parameters", "1B", "--tokens", "1T", "--loss", "2"), "give two of --parameters"),
        (("besiroglu-2024", "--parameters", "1X", "--tokens", "1T"), "write it as 7B, 1.4T or 7e9"),
        (("besiroglu-2024", "--parameters", "-1", "--tokens", "1T"), "write it as 7B, 1.4T or 7e9"),
        (("besiroglu-2024", "--requests", "1e9", "--loss", "2.1"), "--requests needs --isl and --osl"),
        (("besiroglu-2024", "--inference-tokens", "1T"), "the cheapest model needs a quality"),
        (("besiroglu-2024", "--parameters", "1B", "--tokens", "1T", "--isl", "4"), "give --requests"),
        (("besiroglu-2024", "--parameters", "1B", "--tokens", "1T", "--domain", "x"), "leave it out"),
        (("besiroglu-2024", "--parameters", "1B", "--tokens", "1T", "--teacher-parameters", "8B"), "cheapest model"),
        (("nowhere.csv", "--parameters", "1B", "--tokens", "1T"), "nowhere.csv cannot be read"),
        (("besiroglu-2024", "--parameters", "1B", "--tokens", "1T", "--teacher-loss", "2"), "busbridge-2025 takes it"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refuse(capsys, "quality", *arguments)


def test_what_is_asked_of_no_law_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--parameters needs a law: name one" in refuse(capsys, "quality", "--parameters", "8e9", "--tokens", "1e12")


@pytest.mark.parametrize("asked", [("--parameters", "1B", "--loss", "1.9"), ("--loss", "1.8")])
def test_what_no_size_reaches_is_infeasible(capsys: pytest.CaptureFixture[str], asked: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["quality", "besiroglu-2024", *asked, "--json"])
    assert stop.value.code == 3
    assert json.loads(capsys.readouterr().out)["fits"] is False


def test_one_s_own_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("_ANNEALED", "_SETTLED", "_KEPT"):
        monkeypatch.setattr(posterior, name, 14)
    truth = published("besiroglu-2024")
    sizes, tokens = [1e7, 2e7, 4e7, 1e7, 4e7], [2e8, 2e8, 4e8, 8e8, 8e8]
    path = tmp_path / "mine.jsonl"
    path.write_text(
        "".join(
            json.dumps({"parameters": size, "tokens": data, "loss": float(truth.loss(size, data)), "model": "m"}) + "\n"
            for size, data in zip(sizes, tokens, strict=True)
        )
    )
    main(["quality", str(path), "--parameters", "8e7", "--tokens", "8e8"])
    printed = capsys.readouterr().out
    assert "mine: fit to 5 runs (fitted)" in printed
    assert printed.count(" to ") >= 6
    assert "each run left out in turn is foretold within" in printed
    assert "times beyond the largest run" in refuse(capsys, "quality", path, "--parameters", "8e9", "--tokens", "8e8")
    assert "leave teacher_loss out" in refuse(
        capsys, "quality", with_teacher(path), "--parameters", "8e7", "--tokens", "8e8", "--teacher-loss", "2"
    )


def with_teacher(path: Path) -> Path:
    rows = [{**json.loads(line), "teacher_loss": 2.5} for line in path.read_text().splitlines()]
    other = path.with_name("taught.jsonl")
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return other
