"""--json: one document with schema, version and the question as understood; never NaN; also where nothing fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from flashstill import __version__
from flashstill.cli import cli, main
from flashstill.cli.documents import print_json
from flashstill.errors import BadInput

CASE = ("--model", "qwen3-32b", "--chip", "H100_SXM")


def constant(text: str) -> None:
    raise AssertionError(f"{text} stands in a document")


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """The one document of a command that ends with `code`."""
    with pytest.raises(SystemExit) if code else nullcontext() as stop:
        main([*arguments, "--json"])
    assert code == (stop.value.code if stop else 0)
    return json.loads(capsys.readouterr().out, parse_constant=constant)


def test_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "predict", *CASE, "--tp", "2", "--set", "h100-sxm.memory_bytes_per_s=3e12")
    assert (found["schema"], found["version"]) == ("flashstill.predict/1", __version__)
    assert found["fits"] is True
    assert found["tpot_s"] > 0
    question = found["question"]
    expected = {
        "model": "qwen3-32b", "chip": "h100-sxm", "chips": 2, "tp": 2, "pp": 1, "ep": 1, "dp": 1, "isl": 1024,
        "osl": 1024, "concurrency": 16, "precision": "published", "kv_precision": "bf16", "weights_in": "memory",
        "kv_in": "memory", "engine": "vllm", "sampling": "greedy", "price": "rented", "facts": [],
        "set": ["h100-sxm.memory_bytes_per_s=3e12"],
    }  # fmt: skip
    assert {name: question[name] for name in expected} == expected
    assert {"as_json", "edits", "facts_directories"}.isdisjoint(question)


def test_the_question_as_understood_has_the_same_answer(capsys: pytest.CaptureFixture[str]) -> None:
    for model, chip in (("qwen3-30b-a3b", "b200"), ("llama-3.1-8b", "groq-lpu"), ("deepseek-v3", "h200")):
        first = document(capsys, "predict", "--model", model, "--chip", chip)
        names = ("chips", "tp", "pp", "ep", "dp", "precision", "kv_precision", "weights_in", "kv_in", "engine")
        flags = [f"--{name.replace('_', '-')}={first['question'][name]}" for name in names]
        again = document(capsys, "predict", "--model", model, "--chip", chip, *flags)
        assert again == first


def test_an_explanation(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "explain", *CASE, "--batch", "3")
    assert found["schema"] == "flashstill.explain/1"
    question = found["question"]
    assert (question["batch"], question["context"], question["chip"], question["tp"]) == (3, 1024, "h100-sxm", 1)
    assert (question["precision"], question["weights_in"], question["engine"]) == ("published", "memory", "vllm")


def test_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("plan", "--model", "qwen3-32b", "--chips-from", "H100,tpu-v5e", "--max-chips", "2", "--batch", "1,8")
    found = document(capsys, *arguments)
    assert found["schema"] == "flashstill.plan/1"
    assert found["question"]["chips_from"] == ["h100-sxm", "tpu-v5e"]
    assert (found["question"]["batch"], found["question"]["tiers"]) == ([1, 8], ["memory", "sram"])
    assert found["feasible"] > 0
    none = document(capsys, *arguments, "--max-tpot", "1e-9", code=3)
    assert none["schema"] == "flashstill.plan/1"
    assert none["question"]["max_tpot"] == 1e-9
    assert (none["fits"], none["feasible"], none["front"]) == (False, 0, [])
    assert none["reasons"] == none["infeasible"]
    assert sum(none["reasons"].values()) == none["evaluated"] > 0


def test_what_does_not_fit_has_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    big = ("--model", "llama-3.1-405b", "--chip", "h100-sxm", "--tp", "2")
    found = document(capsys, "predict", *big, code=3)
    assert (found["fits"], found["reason"]) == (False, "does not fit in memory")
    assert found["reasons"] == {"does not fit in memory": 1}
    assert found["question"]["tp"] == 2
    found = document(capsys, "explain", *big, "--batch", "1", code=3)
    assert found["schema"] == "flashstill.explain/1"
    assert (found["fits"], found["reasons"]) == (False, {"does not fit in memory": 1})
    assert "take" in found["reason"]
    assert found["question"]["batch"] == 1


def test_a_mistake_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict", *CASE, "--tp", "0", "--json"])
    assert stop.value.code == 2
    assert capsys.readouterr().out == ""


def test_lists_stay_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(document(capsys, "chips"), list)
    assert isinstance(document(capsys, "models"), list)
    assert document(capsys, "chips", "h100")["schema"] == "flashstill.chips/1"


def test_cases_in_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("model,chip\nqwen3-32b,h100\n")
    found = document(capsys, "predict", "--cases", str(tmp_path / "c.csv"), "--out", str(tmp_path / "o.csv"))
    assert found["question"]["cases"] == str(tmp_path / "c.csv")
    assert found["out"] == str(tmp_path / "o.csv")
    assert found["cases"] == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_never_printed(capsys: pytest.CaptureFixture[str], value: float) -> None:
    with pytest.raises(BadInput, match=r"no finite number at a\.1\.b"):
        print_json({"a": [0, {"b": value}]})
    assert capsys.readouterr().out == ""


def names_with_json() -> Iterator[str]:
    return (name for name, command in cli.commands.items() if any(each.name == "as_json" for each in command.params))


def test_every_command_has_it() -> None:
    assert set(names_with_json()) == set(cli.commands)
