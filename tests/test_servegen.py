"""ServeGen's folders of clients, in the form in which they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.simulate import servegen
from flashstill.simulate.servegen import requests_of_clients
from tests.commands import refuse

RATES = "0,0,0,,0,0\n600,0.5,1.1,Gamma,0.8264462809917354,2.42\n1200,0.2,0.5,Weibull,2.1,5.6\n1800,0,0,,0,0\n"
LENGTHS = {
    "0": {"input_tokens": "{100: 0.25, 300: 0.75}", "output_tokens": "{0: 0.5, 40: 0.5}"},
    "1200": {"input_tokens": "{7: 1.0}", "output_tokens": "{9: 1.0}"},
    "1500": {"input_tokens": "{}", "output_tokens": "{}"},
}


def folder(path: Path, clients: int = 2, rates: str = RATES, lengths: Any = LENGTHS) -> Path:
    path.mkdir(exist_ok=True)
    for number in range(clients):
        (path / f"chunk-{number}-trace.csv").write_text(rates)
        (path / f"chunk-{number}-dataset.json").write_text(json.dumps(lengths))
    (path / ".DS_Store").write_text("")
    return path


def drawn(path: Path, seed: int = 0, scale: float = 1.0) -> tuple[Any, ...]:
    return tuple(
        np.concatenate(column) for column in list(zip(*requests_of_clients(path, seed, scale), strict=True))[:3]
    )


def test_rates_and_lengths_are_those_of_the_windows(tmp_path: Path) -> None:
    times, prompt, output = drawn(folder(tmp_path / "m", 60))
    assert (np.diff(times) >= 0.0).all()
    early = times < 1200.0
    assert early.sum() == pytest.approx(60 * 300, rel=0.04)
    assert (~early).sum() == pytest.approx(60 * 120, rel=0.04)
    assert times.min() >= 600.0
    assert times.max() < 1800.0
    assert set(prompt[early]) == {100, 300}
    assert (prompt[early] == 100).mean() == pytest.approx(0.25, abs=0.02)
    assert set(output[early]) == {1, 40}, "an answer has at least one token"
    assert set(prompt[~early]) == {7}
    assert set(output[~early]) == {9}
    ten = drawn(folder(tmp_path / "m", 60), scale=0.1)[0]
    assert len(ten) == pytest.approx(60 * 42, rel=0.1)


def test_a_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files together, before any is read."""
    path = folder(tmp_path / "m", 3)
    held_bytes = sum(each.stat().st_size for each in path.glob("chunk-*"))
    monkeypatch.setattr(servegen, "FOLDER_BYTES", held_bytes)
    assert len(drawn(path)[0]) > 0
    (path / "chunk-1-trace.csv").write_text(RATES + "\n{broken")
    with pytest.raises(fs.BadInput, match=f"m has {held_bytes + 8:,} bytes of clients, and at most {held_bytes:,} are"):
        drawn(path)


def test_a_client_is_drawn_alone(tmp_path: Path) -> None:
    """The same seed gives the same requests, and a client those that it has without the others."""
    one, two = drawn(folder(tmp_path / "one", 1)), drawn(folder(tmp_path / "two", 2))
    assert all((a == b).all() for a, b in zip(one, drawn(tmp_path / "one"), strict=True))
    assert set(one[0]) < set(two[0])
    assert set(one[0]).isdisjoint(drawn(tmp_path / "one", seed=1)[0])


def test_it_is_simulated(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", 1)
    answer = fs.simulate(model="qwen3-8b", chip="h100-sxm", daily=path, rate_scale=0.1)
    times, prompt, output = drawn(path, scale=0.1)
    assert answer.requests == answer.finished == len(times)
    assert (answer.input_tokens, answer.output_tokens) == (prompt.sum(), output.sum())
    with pytest.raises(fs.BadInput, match="say what isl would; leave it out"):
        fs.simulate(model="qwen3-8b", chip="h100-sxm", daily=path, isl=10)


@pytest.mark.parametrize(
    ("rates", "lengths", "sentence"),
    [
        ("0,1\n", LENGTHS, "line 1: 2 columns; ServeGen's have a start, a rate"),
        ("0,1,1\n0,1,1\n", LENGTHS, "line 2: the window does not begin after"),
        ("0,-1,1\n9,1,1\n", LENGTHS, "line 1: the rate is '-1', not a number from 0"),
        ("0,1,nan\n9,1,1\n", LENGTHS, "line 1: the coefficient of variation is 'nan'"),
        ("0,0,0\n9,0,0\n", LENGTHS, "no client in"),
        ("0,1,1\n", LENGTHS, "needs at least two windows"),
        (RATES, [1], "is not ServeGen's document of lengths"),
        (RATES, {"0": {"input_tokens": "{1: x}", "output_tokens": "{}"}}, "input_tokens is no distribution"),
        (RATES, {"0": {"input_tokens": "{1.5: 1}", "output_tokens": "{}"}}, "no numbers from 0 on"),
        (RATES, {"0": {"input_tokens": "{}", "output_tokens": "{}"}}, "has no window with lengths"),
        (RATES, {"0": {"image_tokens": "{}"}}, "has image_tokens: requests with more than text are not read"),
        (RATES, {"0": 5}, "window 0 is no distribution of lengths"),
        (RATES, {"0": {}}, "input_tokens is no distribution such as"),
    ],
)
def test_mistakes(tmp_path: Path, rates: str, lengths: Any, sentence: str) -> None:
    with pytest.raises(fs.BadInput, match=sentence.replace("(", r"\(")):
        drawn(folder(tmp_path / "m", 1, rates, lengths))


def test_other_uses_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder(tmp_path / "m", 1)
    asked = ("simulate", "--model", "qwen3-8b", "--chip", "h100-sxm")
    assert "is a folder, not a file; one of ServeGen's clients" in refuse(capsys, *asked, "--trace", path)
    assert "is of one of ServeGen's clients" in refuse(capsys, *asked, "--trace", path / "chunk-0-trace.csv")
    assert "is of one of ServeGen's clients" in refuse(capsys, *asked, "--daily", path / "chunk-0-trace.csv")
    lengths = path / "chunk-0-dataset.json"
    assert "is of one of ServeGen's clients" in refuse(capsys, *asked, "--rate", 1, "--lengths", lengths)
    lengths.unlink()
    assert "dataset.json is missing" in refuse(capsys, *asked, "--daily", path)
    (tmp_path / "empty").mkdir()
    assert "is a folder without ServeGen's chunk-N-trace.csv" in refuse(capsys, *asked, "--daily", tmp_path / "empty")
