"""Search and prediction: every configuration is counted, the front is one, nonsense is refused with a sentence."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.cli import main
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import load
from flashstill.frontier import non_dominated
from flashstill.plan.predict import Case, predict
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import OBJECTIVES, SearchResult, SearchSpace
from flashstill.validation.anchors.serving import served

FACTS = load()


SCENARIO = Scenario(model="qwen3-30b-a3b", isl=1024, osl=256)
SPACE = SearchSpace(chips=("h100-sxm", "tpu-v5e"), max_chips=8)


def searched(**bounds: Any) -> SearchResult:
    return search(FACTS, dataclasses.replace(SCENARIO, **bounds), SPACE)


def test_every_configuration_is_counted_once() -> None:
    found = searched()
    assert found.evaluated == found.feasible + sum(found.infeasible.values())
    assert 0 < len(found.front) <= found.feasible


def test_no_point_of_the_front_beats_another() -> None:
    front = searched().front
    costs = np.array([[getattr(point, name) for name in OBJECTIVES] for point in front])
    costs[:, 1] *= -1
    for row in costs:
        assert not ((costs <= row).all(axis=1) & (costs < row).any(axis=1)).any()


def test_a_point_is_what_predict_says() -> None:
    for point in searched().front[:5]:
        case = Case.of(
            model="qwen3-30b-a3b",
            chip=point.chip,
            tp=point.tp,
            pp=point.pp,
            ep=point.ep,
            dp=point.dp,
            isl=1024,
            osl=256,
            concurrency=point.batch,
        )
        if point.weights_in == point.kv_in == "memory":
            (answer,) = predict(FACTS, [case])
            assert answer.tpot_s == pytest.approx(point.tpot_s)
            assert answer.joules_per_output_token == pytest.approx(point.joules_per_output_token)


def test_bounds_hold_and_the_impossible_is_told_with_its_reasons() -> None:
    found = searched(max_tpot_s=0.02)
    assert all(point.tpot_s is not None and point.tpot_s <= 0.02 for point in found.front)
    with pytest.raises(InfeasiblePlan) as stop:
        searched(max_tpot_s=1e-6)
    assert stop.value.reasons["tpot above the bound"] > 0


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=40))
def test_non_dominated(rows: list[tuple[int, int, int]]) -> None:
    costs = np.array(rows, dtype=np.float64)
    front = non_dominated(costs)
    for index, row in enumerate(costs):
        beaten = ((costs <= row).all(axis=1) & (costs < row).any(axis=1)).any()
        same = [other for other in front if (costs[other] == row).all()]
        assert beaten == (not same), index


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


SERVED = "model,gpu,tp_size,pp_size,moe_ep_size,attention_dp_size,precision,backend,tpot_ms,isl,osl,concurrency\n" + (
    "qwen3-8b,h100-sxm,1,1,,,,vllm,"
)
SEARCH = ("plan", "--model", "qwen3-32b", "--chips-from", "h100-sxm")
DRAFTED = (*SEARCH, "--max-chips", "8", "--draft", "qwen3-0.6b")
MANY = ",".join(map(str, range(1, 1002)))
CASE = ("predict", "--model", "qwen3-32b", "--chip", "h100-sxm")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((*CASE, "--tp", "3"), "tp does not divide the heads"),
        ((*CASE, "--tp", "2", "--isl", "-4"), "isl must be at least 1"),
        ((*CASE, "--tp", "2", "--isl", "4000000"), "beyond the"),
        ((*CASE, "--tp", "4", "--chips", "6"), "tp x pp x dp"),
        ((*CASE, "--tp", "2", "--precision", "fp7"), "unknown precision"),
        ((*CASE, "--engine", "vlm"), "the nearest known: vllm"),
        ((*CASE, "--ep", "2", "--tp", "2"), "ep without experts"),
        (("predict", "--model", "qwen3-32b"), "--model and --chip"),
        (("plan", "--model", "qwen3-32b", "--chips-from", "h1000", "--max-chips", "8"), "unknown chip 'h1000'"),
        (("validate", "--anchors", "/nowhere"), "there is no directory"),
        ((*SEARCH, "--max-chips", "1e12"), "max chips is 1,000,000,000,000; a search looks at up to 1,048,576"),
        ((*SEARCH, "--max-chips", "99999999999999"), "a search looks at up to 1,048,576"),
        ((*SEARCH, "--max-chips", "8", "--batch", "1e30"), "batch is '1e30', not a whole number"),
        ((*SEARCH, "--max-chips", "8", "--batch", "1,9e15"), "batch must lie between 1 and 1,000,000,000"),
        ((*SEARCH, "--max-chips", "8", "--batch", MANY), "batch has 1,001 entries; a search takes up to 1,000"),
        ((*SEARCH, "--max-chips", "8", "--redundant-experts", MANY), "redundant experts has 1,001 entries; a search"),
        ((*DRAFTED, "--draft-tokens", "1,9e9"), "draft tokens must be at most 1000, not 9000000000"),
        ((*DRAFTED, "--draft-tokens", MANY), "draft tokens must be at most 1000"),
        ((*SEARCH[:2], "deepseek-v3", *SEARCH[3:], "--max-chips", "65536", "--batch", MANY[:3000]), "--max-chips"),
        ((*CASE, "--tp", "2", "--draft", "qwen3-0.6b", "--draft-tokens", "1e9"), "draft tokens must be at most 1000"),
    ],
)
def test_nonsense(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refuse(capsys, *arguments)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("gpu,model\nh100-sxm,qwen3-8b\n", ""),
        ("tpot_ms,tp_size\n5,1\n", "has no column 'model'"),
        ("tpot_ms,tp_size\n5\n", "row 1 has 1 cells, the header 2"),
        (f"{SERVED}x,64,64,1\n", "serving in {place} hold a cell that is not understood: could not convert string"),
        (f"{SERVED}-1,64,64,1\n", "a measured tpot_s is not a number above 0"),
        (f"{SERVED}nan,64,64,1\n", "serving_gpu.csv: row 1 has nan as its "),
        (f"{SERVED}5,inf,64,1\n", "serving_gpu.csv: row 1 has inf as its "),
        (f"{SERVED}5,64,64,1e999\n", "serving_gpu.csv: row 1 has 1e999 as its "),
        ("\0" * 10, ""),
        ("/dev/zero", "is not a regular file"),
        (f"tpot_ms\n{'9' * 200_000}\n", "field larger than field limit"),
    ],
)
def test_anchors_of_a_stranger(tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, sentence: str) -> None:
    place = tmp_path / "serving_gpu.csv"
    place.symlink_to(table) if table.startswith("/") else place.write_text(table, encoding="utf-8")
    told = refuse(capsys, "validate", "--anchors", str(tmp_path))
    assert (sentence or "holds no anchor file").replace("{place}", str(tmp_path)) in told
    assert "Traceback" not in told


def test_a_measured_row_that_does_not_say_its_load_is_left_out(tmp_path: Path) -> None:
    header = "model,gpu,precision,isl,osl,concurrency,tp_size,pp_size,backend,tpot_ms"
    row = "qwen3-8b,h100-sxm,bf16,1024,256,{},1,1,vllm,9"
    (tmp_path / "serving_gpu.csv").write_text("\n".join([header, row.format(28), row.format("")]), encoding="utf-8")
    assert [each.case.scenario.batch for each in served(tmp_path)] == [28]


def test_anchors_too_large_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "serving_gpu.csv").open("wb") as stream:
        stream.truncate(2**40)
    assert "is larger than 64 MiB" in refuse(capsys, "validate", "--anchors", str(tmp_path))


def test_what_is_named_twice_is_priced_once(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for times in (1, 3):
        formats, tiers = ",".join(["fp8"] * times), ",".join(["memory"] * times)
        main([*DRAFTED, "--precision", formats, "--tiers", tiers, "--draft-tokens", ",".join(["2"] * times), "--json"])
        document = json.loads(capsys.readouterr().out)
        found.append((document["evaluated"], document["question"]["draft_tokens"]))
    assert found[0] == found[1]


def test_a_search_too_large_is_refused_before_memory_is_taken() -> None:
    drafting = dataclasses.replace(SCENARIO, draft="new-heads")
    combined = dataclasses.replace(SPACE, max_chips=4096, draft_tokens=tuple(range(1, 1001)))
    with pytest.raises(BadInput, match="configurations; a search prices up to 20,000,000"):
        search(FACTS, drafting, combined)


def test_cases_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "cases.csv", tmp_path / "answers.csv"
    source.write_text(
        "label,model,chip,tp,concurrency,isl\n"
        "a,qwen3-32b,h100_sxm,2,16,\n"
        "b,qwen3-32b,h100-sxm,two,16,\n"
        "c,llama-3.1-405b,h100-sxm,1,1,512\n"
        "d,,h100-sxm,1,1,512\n"
    )
    main(["predict", "--cases", str(source), "--out", str(out), "--json"])
    summary = json.loads(capsys.readouterr().out)
    assert (summary["cases"], summary["answered"], summary["fitting"]) == (4, 2, 1)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["label"] for row in rows] == ["a", "b", "c", "d"]
    (alone,) = predict(FACTS, [Case.of(model="qwen3-32b", chip="h100-sxm", tp=2)])
    assert float(rows[0]["tpot_s"]) == pytest.approx(alone.tpot_s)
    assert "not a whole number" in rows[1]["reason"]
    assert rows[2]["reason"] == "does not fit in memory"
    assert rows[2]["tpot_s"] == ""
    assert "has no model" in rows[3]["reason"]


def test_a_mistyped_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "cases.csv"
    source.write_text("model,chip,concurency\nqwen3-32b,h100-sxm,4\n")
    assert "did you mean 'concurrency'" in refuse(
        capsys, "predict", "--cases", str(source), "--out", str(tmp_path / "x.csv")
    )
    assert not (tmp_path / "x.csv").exists()
