"""Results as print() shows them, and mistakes of calls in the words of whoever called."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

import flashstill as fs
from flashstill.calls import refuses_other_keywords
from flashstill.errors import BadInput, InfeasiblePlan, nearest
from flashstill.tables import MOST_ROWS, Displayed, Table, cell, records_table


class _Shown(Displayed):
    def _table(self) -> Table:
        return Table(("chip", "tpot_s"), [("h100-sxm", "0.1"), ("l4", "12")], "two chips")


class _Facts(Displayed):
    def _table(self) -> Table:
        return Table(("", ""), [("bound by", "memory")], "one answer")


def test_a_result_is_printed_as_the_table_that_a_notebook_draws() -> None:
    assert str(_Shown()).splitlines() == ["two chips", "  chip      tpot_s", "  h100-sxm     0.1", "  l4            12"]
    assert str(_Facts()).splitlines() == ["one answer", "  bound by  memory"]
    drawn = _Shown()._repr_html_()
    assert "<caption>two chips</caption>" in drawn
    assert "<td>0.1</td>" in drawn


def test_columns_that_are_empty_and_rows_beyond_the_first_are_left_out() -> None:
    records = [{"a": at, "b": None, "c": ""} for at in range(MOST_ROWS + 1)]
    table = records_table(records, ("a", "b", "c", "d"), "all")
    assert table.headings == ["a"]
    assert len(table.rows) == MOST_ROWS
    assert table.caption == f"all, the first {MOST_ROWS} of {MOST_ROWS + 1} rows"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.01235"),
        (12345.6, "12,346"),
        (9999.6, "10,000"),
        (999e9, "999,000,000,000"),
        (1.25e15, "1.25e+15"),
        (None, ""),
    ],
)
def test_numbers_are_short(value: Any, text: str) -> None:
    assert cell(value) == text


def test_answers_and_sweeps_print_what_they_say() -> None:
    answer = fs.predict(model="qwen3-8b", chip="h100-sxm", batch=16)
    lines = str(answer).splitlines()
    assert lines[0] == "qwen3-8b on 1 x h100-sxm, 1024 tokens in, 1024 out, batch 16"
    assert any(line.split()[-2:] == ["by", "memory"] for line in lines)
    sweep = fs.predict(model="qwen3-8b", chip="h100-sxm", batch=[1, 16], tp=[1, 3])
    assert sweep["tpot_s"] == sweep.column("tpot_s") == [sweep[0].tpot_s, sweep[1].tpot_s]
    assert "nearest that does is 4" in str(sweep)
    assert len(str(sweep).splitlines()) == 2 + 4


@pytest.mark.parametrize(
    "answer",
    [
        lambda: fs.trends(year=2028),
        lambda: fs.ceiling(model="qwen3-8b", chip="b200", memory="sram", sync_s=1e-6, context=1024),
        lambda: fs.arrays(model="qwen3-8b", tokens=64),
    ],
)
def test_answers_about_the_years_ahead_are_tables(answer: Any) -> None:
    found = answer()
    assert "(" not in str(found).splitlines()[1]  # no repr of an object
    assert len(str(found).splitlines()) == 2 + len(found.as_records())
    assert "<table>" in found._repr_html_()


def test_an_unknown_keyword_is_named_before_one_that_is_missing() -> None:
    with pytest.raises(BadInput, match="unknown keyword 'gpu'; the nearest known: chip"):
        fs.predict(model="qwen3-8b", gpu="l4")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("--batch", ("--concurrency", "--chip", "--microbatch"), "--concurrency"),
        ("--input-len", ("--isl", "--interleave"), "--isl"),
        ("tensor_parallel_size", ("tp", "pp"), "tp"),
        ("--tp", ("--dp", "--tp"), "--tp"),
    ],
)
def test_words_of_other_programs_lead_to_ours(name: str, known: tuple[str, ...], meant: str) -> None:
    assert nearest(name, known)[0] == meant


@refuses_other_keywords
def _ask(*, max_chips: int = 1, max_ttft_s: float | None = None) -> None:
    raise BadInput("lower --max-chips or --max-ttft; vllm has --save-detailed, and --max-chipset is no option")


def test_messages_speak_of_keywords_from_python() -> None:
    with pytest.raises(BadInput) as caught:
        _ask()
    assert str(caught.value) == (
        "lower max_chips or max_ttft_s; vllm has --save-detailed, and --max-chipset is no option"
    )
    with pytest.raises(BadInput, match=r"^cannot read set 'l4.memory_bytes=1TBs'"):
        fs.predict(model="qwen3-8b", chip="l4", set={"l4.memory_bytes": "1TBs"})


def test_a_traceback_shows_why_nothing_is_feasible() -> None:
    error = InfeasiblePlan("nothing serves it", {"does not fit in memory": 13, "tpot above the bound": 2})
    told = "".join(traceback.format_exception_only(error))
    assert "does not fit in memory: 13; tpot above the bound: 2" in told
    assert str(error) == "nothing serves it"


def test_a_chip_that_is_a_file_is_told_where_chips_come_from() -> None:
    with pytest.raises(fs.MissingFact, match=r"own is rows of facts, in a directory for facts$"):
        fs.chip("my-chip.toml")
    with pytest.raises(fs.MissingFact, match=r"unknown chip 'my-chip'[^;]*; the nearest known: [a-z0-9, -]*$"):
        fs.chip("my-chip")


def test_part_of_a_sweep() -> None:
    sweep = fs.predict(model="qwen3-8b", chip=["l4", "h100-sxm"], batch=[1, 8], tp=[1, 3])
    part = sweep.where(chip="l4", tp=1)
    assert part["batch"] == [1, 8]
    assert part["tpot_s"] == [answer.tpot_s for answer in sweep if answer.deployment.chip == "l4"]
    assert len(sweep.where(tp=3)) == 0
    assert len(sweep.where(tp=3).refused) == 4
    with pytest.raises(BadInput, match="unknown column 'chp'; the nearest known: chip"):
        sweep.where(chp="l4")


CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 4096,
}  # fmt: skip


def test_a_model_of_ones_own_is_the_content_of_a_config() -> None:
    shape = fs.model(CONFIG)
    blocks = 2 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128 + 2 * 64)  # attention; FFN; norms
    assert (shape.name, shape.parameters) == ("llama", blocks + 2 * 64 * 100 + 64)
    assert fs.model({**CONFIG, "_name_or_path": "me/mine"}).name == "mine"
    assert fs.predict(model=shape, chip="l4").scenario.model_name == "llama"
    with pytest.raises(BadInput, match="not what a config"):
        fs.model({**CONFIG, "hidden_size": {1, 2}})
    with pytest.raises(fs.UnsupportedArchitecture, match="no model_type"):
        fs.model({"hidden_size": 3})


@pytest.mark.parametrize(("requests", "told"), [(200, True), (256, False), (400, False), (512, False)])
def test_too_few_requests_for_the_check_of_a_steady_state_are_told(requests: int, told: bool) -> None:
    answer = fs.simulate(model="qwen3-8b", chip="l40s", rate=2.0, isl=64, osl=16, requests=requests)
    notes = [note for note in answer.notes if "too few to tell whether waiting grows" in note]
    assert bool(notes) == told == (answer.steady is None)
    assert all(note.startswith("200 requests") and note.endswith("256 would do") for note in notes)


def test_a_short_run_of_too_many_requests_is_not_steady() -> None:
    """Four times what a replica serves, 300 requests: those of the last quarter wait longest."""
    answer = fs.simulate(model="olmo-2-13b", chip="l40s", rate=1.0, requests=300)
    assert answer.steady is not None
    assert not answer.steady.is_steady
