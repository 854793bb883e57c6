"""An accelerator and a model that only the user knows: a directory of facts, a config.json, and what serves them."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashstill as fs
from flashstill.cli import main
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.selection import WithinContext
from tests.commands import refuse

MACHINES = "name,title,maker,class,year\nlp-card,LPDDR card,Acme,npu,2027\n"
ROWS = {
    ("flops_per_s", "bf16 dense", "FLOP/s"): 1.2e14, ("memory_bytes", "LPDDR5X", "B"): 6.4e10,
    ("memory_bytes_per_s", "LPDDR5X", "B/s"): 2.7e11, ("sram_bytes", "", "B"): 1.28e8, ("power_limit_w", "", "W"): 75.0,
    ("idle_w", "", "W"): 18.0, ("process_nm", "", "nm"): 5.0, ("die_mm2", "", "mm2"): 400.0,
}  # fmt: skip
CONFIG = {
    "model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16,
    "num_key_value_heads": 4, "intermediate_size": 4096, "vocab_size": 32000, "max_position_embeddings": 2048,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    """A chip without links and without a price."""
    folder = tmp_path / "my facts"
    folder.mkdir()
    (folder / "machines.csv").write_text(MACHINES)
    per = {"nm": "die", "mm2": "package"}
    lines = [
        f"lp-card,{quantity},{value},,,{unit},{per.get(unit, 'chip')},{condition},estimate,mine,2026-11,"
        for (quantity, condition, unit), value in ROWS.items()
    ]
    (folder / "chips.csv").write_text(
        "name,quantity,value,low,high,unit,per,condition,kind,source,as_of,note\n" + "\n".join(lines) + "\n"
    )
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(CONFIG))
    return path


def log_of(path: Path, requests: int = 60, longest: int = 300) -> Path:
    """A log in milliseconds with columns of its own."""
    numbers = np.random.default_rng(3)
    times = np.cumsum(numbers.exponential(200.0, requests))
    rows = zip(times, numbers.integers(50, longest, requests), numbers.integers(5, 40, requests), strict=True)
    lines = [f"{time:.0f},{prompt},{output}" for time, prompt, output in rows]
    path.write_text("start_ms,in,out\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_the_command_of_a_fleet_runs_as_it_is_printed(
    tmp_path: Path, facts: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the model's path, the directories of facts, edits, and how the trace is read."""
    log = log_of(tmp_path / "a log.csv")
    main([
        "plan", "--model", str(model), "--chip", "lp-card", "--max-chips", "1", "--facts", str(facts), "--co-located",
        "--set", "lp-card.usd_per_hour=0.5", "--set", "lp-card.memory_bytes_per_s=0.5TB/s", "--trace", str(log),
        "--trace-columns", "time=start_ms,input=in,output=out", "--speed", "2", "--slo", "ttft_p50<5,tpot_p50<1",
    ])  # fmt: skip
    told = capsys.readouterr().out
    command = told.split("the same in a simulation: ")[1].splitlines()[0]
    main([*shlex.split(command)[1:], "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["requests"] == 60
    assert document["deployment"]["chip"] == "lp-card"
    assert "$0.50 an hour" in told
    dollars = document["usd_per_million_output_tokens"] * document["output_tokens"] / 1e6
    assert dollars == pytest.approx(0.5 * document["replica_hours"])
    asked: dict[str, Any] = {"model": str(model), "chip": "lp-card", "facts": facts, "trace": log, "speed": 2.0}
    asked["trace_columns"] = "time=start_ms,input=in,output=out"
    edits = {"lp-card.usd_per_hour": 0.5, "lp-card.memory_bytes_per_s": 5e11}
    edited, plain = (fs.simulate(**asked, set=each) for each in (edits, {}))
    told_s = document["latencies"]["tpot_s"]["mean_s"]
    assert told_s == edited.latencies["tpot_s"].mean_s != plain.latencies["tpot_s"].mean_s


def test_what_is_missing_is_said_once(
    tmp_path: Path, facts: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared: list[Any] = ["--model", model, "--chip", "lp-card", "--facts", facts]
    main([str(each) for each in ("simulate", *shared, "--rate", 1, "--requests", 30, "--osl", 10)])
    assert capsys.readouterr().out.count("no price is known") == 1
    log = log_of(tmp_path / "log.csv")
    read = ("--trace-columns", "time=start_ms,input=in,output=out")
    line = refuse(capsys, "plan", *shared, "--trace", log, *read, "--slo", "ttft_p50<5")
    assert "give one with --set NAME.usd_per_hour=2" in line


def test_requests_beyond_the_context_are_not_served(tmp_path: Path, facts: Path, model: Path) -> None:
    """As an engine, which turns them away, and as the fleet of `plan --trace`."""
    log = tmp_path / "log.csv"
    log.write_text("arrival_s,input_tokens,output_tokens\n0,100,9\n1,2040,9\n2,2039,9\n3,3000,9\n4,50,5\n")
    asked: dict[str, Any] = {"model": str(model), "chip": "lp-card", "facts": facts, "trace": log}
    answer = fs.simulate(**asked)
    assert answer.finished == 3
    assert answer.input_tokens == 100 + 2039 + 50
    assert "2 of 5 requests are longer than the model's context and are left out" in answer.notes
    log.write_text("arrival_s,input_tokens,output_tokens\n0,1500,900\n1,1500,900\n")
    with pytest.raises(fs.BadInput):
        fs.simulate(**asked)


def test_of_a_closed_loop_as_many_begin() -> None:
    """Lengths drawn from a file may be too long; those that follow take their places, with their names of blocks."""
    lengths = np.array([5, 50, 6, 7, 8])
    times = np.array([0.0, 0.1, np.inf, np.inf, np.inf])
    taken = WithinContext(20)
    (piece,) = taken.of([Arrivals(times, lengths, lengths, np.zeros(5, dtype=np.int64))])
    assert piece.prompt.tolist() == [5, 6, 7, 8]
    assert piece.arrival_s.tolist() == [0.0, 0.1, np.inf, np.inf]
    lengths = np.array([5, 50, 6])
    names = Arrivals(
        np.arange(3.0), lengths, lengths, np.zeros(3, dtype=np.int64), np.array([1, 3, 4]), np.array([7, 8, 9, 4])
    )
    (piece,) = taken.of([names])
    assert piece.arrival_s.tolist() == [0.0, 2.0]
    assert piece.keys.tolist() == [7, 4]
    assert taken.notes() == ("2 of 8 requests are longer than the model's context and are left out",)
    with pytest.raises(fs.BadInput, match="every request is longer than the 4 tokens"):
        list(WithinContext(4).of([names]))


@pytest.mark.parametrize(
    ("call", "asked", "told"),
    [
        (fs.predict, {"concurrency": 4}, "unknown keyword 'concurrency'; the number of requests in flight is batch"),
        (fs.explain, {"concurency": 4}, "the number of requests in flight is batch"),
        (fs.predict, {"fact": "dir"}, "unknown keyword 'fact'; the nearest known: facts"),
        (fs.simulate, {"rate": "4"}, "rate is '4', not a number"),
        (fs.simulate, {"rate": 4.0, "isl": "1k"}, "isl is '1k', not a whole number"),
        (fs.simulate, {"rate": 4.0, "max_ttft_s": "fast"}, "max_ttft_s is 'fast', not a number"),
        (fs.simulate, {"rate": float("nan")}, "rate must lie between"),
        (fs.simulate, {"rate": 4.0, "prize": "owned"}, "the nearest known: price"),
        (fs.knee, {"osl": "64"}, "osl is '64', not a whole number"),
        (fs.predict, {"pp": 64}, "pp exceeds the layers: 64 stages for 32 layers"),
    ],
)
def test_what_a_notebook_asks_wrongly_is_told(call: Any, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(fs.BadInput, match=re.escape(told)):
        call(model="llama-3.1-8b", chip="h100-sxm", **asked)


def test_keywords_of_a_fleet_are_named(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log.csv")
    asked: dict[str, Any] = {"windows": 60.0}
    with pytest.raises(fs.BadInput, match=r"unknown keyword of plan_fleet 'windows'; the nearest known: window_s"):
        fs.plan_fleet(model="llama-3.1-8b", chips="h100-sxm", trace=log, slo="ttft_p95<1", **asked)


def test_what_is_missing_of_a_chip_is_what_it_lacks(facts: Path, model: Path) -> None:
    rows = (facts / "chips.csv").read_text().splitlines()
    (facts / "chips.csv").write_text("\n".join(row for row in rows if ",process_nm," not in row) + "\n")
    with pytest.raises(fs.MissingFact, match="no fact row gives process_nm of lp-card;"):
        fs.predict(model=str(model), chip="lp-card", facts=facts)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=30),
    pieces=st.integers(1, 4),
    context=st.integers(2, 120),
    closed=st.booleans(),
)
def test_what_is_within_the_context_comes_through(
    lengths: list[tuple[int, int]], pieces: int, context: int, closed: bool
) -> None:
    """All that fits and nothing else, in order, each with its names; what is left out is counted."""
    prompt, output = (np.array(column, dtype=np.int64) for column in zip(*lengths, strict=True))
    count = len(lengths)
    times = 0.5 * np.arange(count, dtype=np.float64)
    times[3:] = np.inf if closed else times[3:]
    cuts = [0, count] if closed else sorted({0, count, *(count * part // pieces for part in range(pieces))})
    whole = [
        Arrivals(
            times[low:high], prompt[low:high], output[low:high], np.zeros(high - low, dtype=np.int64),
            np.arange(1, high - low + 1), np.arange(low, high),
        )
        for low, high in itertools.pairwise(cuts)
    ]  # fmt: skip
    fits = prompt + output <= context
    taken = WithinContext(context)
    if not fits.any():
        with pytest.raises(fs.BadInput, match="every request is longer"):
            list(taken.of(whole))
        return
    found = list(taken.of(whole))
    assert (taken.requests, taken.too_long) == (count, count - int(fits.sum()))
    assert np.concatenate([piece.prompt for piece in found]).tolist() == prompt[fits].tolist()
    assert np.concatenate([piece.keys for piece in found]).tolist() == np.flatnonzero(fits).tolist()
    came = np.concatenate([piece.arrival_s for piece in found])
    assert (np.diff(came[np.isfinite(came)]) >= 0.0).all()
    if closed:
        assert np.isfinite(came).sum() == min(3, int(fits.sum()))


@given(pp=st.integers(1, 300), batch=st.sampled_from([1, 7, 500]), chip=st.sampled_from(["l4", "h100-sxm", "wse-3"]))
def test_any_number_of_stages_is_answered_or_refused(pp: int, batch: int, chip: str) -> None:
    if pp > 32:
        with pytest.raises(fs.BadInput, match="pp exceeds the layers"):
            fs.predict(model="llama-3.1-8b", chip=chip, pp=pp, batch=batch)
        return
    try:
        assert fs.predict(model="llama-3.1-8b", chip=chip, pp=pp, batch=batch).deployment.pp == pp
    except fs.InfeasiblePlan:
        return
