"""`predict --cases`: each row is answered or has its reason, and what the user brought along comes out again."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.facts import Facts, load
from flashstill.plan import cases as cases_module
from flashstill.plan.case import CASE_FIELDS, Case
from flashstill.plan.cases import answer_file
from flashstill.plan.predict import predict
from flashstill.plan.prediction import PREDICTION_FIELDS, Prediction, sound
from tests.commands import SHARED
from tests.marks import examples

FACTS = load()
GOOD = "qwen3-32b,h100-sxm,2"


@pytest.fixture(autouse=True)
def long_cells() -> Iterator[None]:
    """Tests read answers whose cells are longer than Python's reader takes by itself."""
    before = csv.field_size_limit(2**22)
    yield
    csv.field_size_limit(before)


def answered(folder: Path, text: str | bytes) -> list[dict[str, str]]:
    """The rows of the answers to a file of that text."""
    source, out = folder / "cases.csv", folder / "answers.csv"
    source.write_bytes(text.encode() if isinstance(text, str) else text)
    answer_file(FACTS, source, out)
    with out.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return list(csv.DictReader(stream))


def table(*rows: list[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def refused(folder: Path, text: str | bytes) -> str:
    with pytest.raises(BadInput) as stop:
        answered(folder, text)
    assert not (folder / "answers.csv").exists()
    return str(stop.value)


ALONE = predict(FACTS, [Case.of(model="qwen3-32b", chip="h100-sxm", tp=2)])[0]


def is_alone(row: dict[str, str]) -> bool:
    """Whether a row has the answer that the good case has by itself."""
    return row["fits"] == "true" and row["reason"] == "" and float(row["tpot_s"]) == pytest.approx(ALONE.tpot_s)


BAD_CELLS = [
    ("tp", "²"),
    ("tp", "٢"),
    ("tp", "9" * 400),
    ("tp", "1e400"),
    ("tp", "1e30"),
    ("tp", "nan"),
    ("tp", "-inf"),
    ("tp", "-2"),
    ("tp", "0"),
    ("tp", "2.5"),
    ("tp", "1_0"),
    ("tp", "0x2"),
    ("tp", "2\0"),
    ("isl", "9" * 5000),
    ("osl", "0"),
    ("concurrency", "-1"),
    ("acceptance", "NaN"),
    ("acceptance", "1e999"),
    ("model", "x" * 300),
    ("model", "/" + "y/" * 3000),
    ("model", "~nobody"),
    ("model", "~no-such-user"),
    ("model", "~nobody/config.json"),
    ("model", "qwen\0"),
    ("model", "z" * 1_000_000),
    ("model", "/dev/zero"),
    ("model", "=1+1"),
    ("chip", "h100\n"),
    ("chip", "²"),
    ("topology", "²x2"),
    ("topology", "1" * 5000),
    ("precision", "fp¹⁶"),
    ("engine", "\x7f"),
    ("weights_in", "²"),
    ("draft", "~nobody"),
]


FEW = {("tp", "²"), ("tp", "nan"), ("tp", "0"), ("isl", "9" * 5000), ("concurrency", "-1"), ("acceptance", "NaN")}
FEW |= {("model", "~nobody"), ("model", "/dev/zero"), ("chip", "²"), ("topology", "²x2"), ("precision", "fp¹⁶")}


@pytest.mark.parametrize(
    ("field", "cell"),
    [pytest.param(*each, marks=() if each in FEW else pytest.mark.slow) for each in BAD_CELLS],
    ids=[f"{field}-{cell[:8]!r}" for field, cell in BAD_CELLS],
)
def test_a_bad_cell_costs_only_its_row(tmp_path: Path, field: str, cell: str) -> None:
    columns = ["model", "chip", "tp"] + ([field] if field not in ("model", "chip", "tp") else [])
    good = {"model": "qwen3-32b", "chip": "h100-sxm", "tp": "2"}
    row = {**good, field: cell}
    rows = [[values.get(name, "") for name in columns] for values in (good, row, good)]
    first, bad, last = answered(tmp_path, table(columns, *rows))
    assert is_alone(first)
    assert is_alone(last)
    if bad["fits"] == "true":  # "h100\n" is a chip once it is stripped
        assert cell == "h100\n"
        return
    assert bad["tpot_s"] == ""
    assert 0 < len(bad["reason"]) <= 1000
    assert "\n" not in bad["reason"]
    named = {field, cell.strip()[:40], "memory" if field == "weights_in" else field}
    assert any(name in bad["reason"] for name in named)


def test_a_nested_config_costs_only_its_row(tmp_path: Path) -> None:
    deep = tmp_path / "config.json"
    deep.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    first, bad, last = answered(tmp_path, f"model,chip,tp\n{GOOD}\n{deep},h100-sxm,2\n{GOOD}\n")
    assert is_alone(first)
    assert is_alone(last)
    assert bad["reason"]


def test_other_readers_of_csv_keep_their_limit(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    good, bad = answered(tmp_path, f"model,chip,tp\n{GOOD}\n{'x' * 200_000},h100-sxm,2\n")
    assert is_alone(good)
    assert bad["reason"]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("name", ["cases-superscript.csv", "cases-long-model.csv"])
def test_files_that_failed_once(tmp_path: Path, name: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("the shared files are not here")
    good, bad = answered(tmp_path, (SHARED / "cases" / name).read_bytes())
    assert is_alone(good)
    assert ("²x2" if "script" in name else "xxx") in bad["reason"]


def test_an_error_of_our_own_is_said_and_costs_only_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(facts: Facts, cases: list[Case], price: str) -> list[Prediction]:
        if any(case.scenario.isl == 77 for case in cases):
            raise ZeroDivisionError("division by zero")
        return predict(facts, cases, price)

    monkeypatch.setattr(cases_module, "predict", fails)
    text = "model,chip,tp,isl\n" + "".join(f"{GOOD},{isl}\n" for isl in (1024, 77, 1024, 1024, 77))
    rows = answered(tmp_path, text)
    assert [is_alone(row) for row in rows] == [True, False, True, True, False]
    assert "a fault of its own (ZeroDivisionError: division by zero)" in rows[1]["reason"]


def test_no_answer_has_a_number_that_cannot_be() -> None:
    for name in ("tpot_s", "joules_per_output_token", "usd_per_million_output_tokens"):
        for value in (float("nan"), float("inf"), -1.0):
            changes: dict[str, Any] = {name: value}
            answer = sound(replace(ALONE, **changes))
            assert not answer.fits
            assert name in answer.reason
    assert sound(ALONE) == ALONE


class TestRows:
    """Rows that are not as long as the header, quotes, line ends and encodings."""

    def test_too_many_and_too_few_cells(self, tmp_path: Path) -> None:
        rows = answered(tmp_path, f"model,chip,tp\n{GOOD},9\n{GOOD},\nqwen3-32b,h100-sxm\n{GOOD}\n")
        assert "4 cells for 3 columns" in rows[0]["reason"]
        assert is_alone(rows[1])
        assert "2 cells for 3 columns" in rows[2]["reason"]
        assert is_alone(rows[3])

    def test_a_quote_that_is_never_closed(self, tmp_path: Path) -> None:
        rows = answered(tmp_path, f'model,chip,tp,label\n{GOOD},a\n{GOOD},"b\n{GOOD},c\n{GOOD},d')
        assert [row["label"] for row in rows] == ["a", "b", "c", "d"]
        assert [is_alone(row) for row in rows] == [True, False, True, True]
        assert "a quote" in rows[1]["reason"]

    def test_a_row_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("flashstill.plan.casefile.MOST_CHARACTERS", 1000)
        rows = answered(tmp_path, f"model,chip,tp\n{GOOD}\n{'x' * 5000}\n{GOOD}\n" + f'"{GOOD}\n' + f"{GOOD}\n" * 99)
        assert len(rows) == 103
        assert [number for number, row in enumerate(rows) if not is_alone(row)] == [1, 3]

    def test_byte_order_mark_and_line_ends(self, tmp_path: Path) -> None:
        for end in ("\r\n", "\r", "\n"):
            text = f'Model, chip ,TP,label{end}{end}{GOOD},"two{end}lines"{end}{GOOD},é'
            rows = answered(tmp_path, b"\xef\xbb\xbf" + text.encode())
            assert [row["label"] for row in rows] == [f"two{end}lines", "é"]
            assert all(map(is_alone, rows))

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        rows = answered(tmp_path, f"model,chip,tp,label\n{GOOD},caf\xe9\nqw\xe9n,h100-sxm,2,b\n".encode("latin-1"))
        assert is_alone(rows[0])
        assert rows[0]["label"].encode("utf-8", "surrogateescape") == b"caf\xe9"
        assert "no text in UTF-8" in rows[1]["reason"]

    def test_a_huge_cell_of_the_users_own(self, tmp_path: Path) -> None:
        (row,) = answered(tmp_path, f"model,chip,tp,label\n{GOOD},{'n' * 1_000_000}\n")
        assert is_alone(row)
        assert len(row["label"]) == 1_000_000


class TestColumns:
    """Which columns a file has, and what becomes of them."""

    def test_own_columns_survive_under_our_names(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source, out = tmp_path / "cases.csv", tmp_path / "answers.csv"
        source.write_text(f"fits,note,predicted_note,model,chip,tp, ttft_s\nmine,my note,older,{GOOD}, 7 \n")
        main(["predict", "--cases", str(source), "--out", str(out), "--json"])
        captured = capsys.readouterr()
        renamed = json.loads(captured.out)["renamed"]
        assert renamed == {"fits": "predicted_fits", "ttft_s": "predicted_ttft_s", "note": "predicted_predicted_note"}
        assert "ours is called 'predicted_fits'" in captured.err
        (row,) = csv.DictReader(out.read_text().splitlines())
        assert (row["fits"], row["note"], row["predicted_note"], row["ttft_s"]) == ("mine", "my note", "older", " 7 ")
        assert row["predicted_fits"] == "true"
        assert float(row["tpot_s"]) == pytest.approx(ALONE.tpot_s)

    def test_answers_can_be_asked_again(self, tmp_path: Path) -> None:
        first = answered(tmp_path, f"model,chip,tp\n{GOOD}\n")
        (again,) = answered(tmp_path, (tmp_path / "answers.csv").read_bytes())
        assert {name: again[f"predicted_{name}"] for name in PREDICTION_FIELDS} == {
            name: first[0][name] for name in PREDICTION_FIELDS
        }

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "is empty"),
            ("\n\n", "is empty"),
            (",,\n", "is empty"),
            ("model,chip,tp,tp\n", "two columns 'tp'"),
            ("model,chip,label,label\n", "two columns 'label'"),
            ("model,chip,kv-precision,KV_Precision\n", "two columns 'KV_Precision'"),
            ("model;chip;tp\nqwen3-32b;h100-sxm;2\n", "separated by semicolons"),
            ("model\tchip\ttp\n", "separated by tabs"),
            ("model,tp\n", "has no column chip"),
            ("modle,chip\n", "has no column model"),
            ("model,chip,concurency\n", "did you mean 'concurrency'"),
            ('"model,chip\n', "a quote"),
            ("model,chip\n".encode("utf-16"), "UTF-16"),
            (b"\0" * 5_000, "is not CSV"),
        ],
    )
    def test_what_is_no_table_of_cases(self, tmp_path: Path, text: str | bytes, sentence: str) -> None:
        assert sentence in refused(tmp_path, text)

    def test_a_header_alone_has_no_rows(self, tmp_path: Path) -> None:
        assert answered(tmp_path, "model,chip\n") == []
        assert (tmp_path / "answers.csv").read_text().startswith("model,chip,fits,reason")

    def test_formulas_are_quoted_and_numbers_are_not(self, tmp_path: Path) -> None:
        cells = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "-5", "+3.5e-3", "-5%", "-", "--", "a=1"]
        rows = answered(tmp_path, table(["model", "chip", "=x"], *[["qwen3-32b", "=chip", cell] for cell in cells]))
        quoted = [f"'{cell}" for cell in cells[:5]]
        assert [row["'=x"] for row in rows] == [*quoted, *cells[5:]]
        assert {row["chip"] for row in rows} == {"'=chip"}


text_cells = st.one_of(
    st.text(max_size=20),
    st.sampled_from([cell for _, cell in BAD_CELLS if len(cell) < 1000]),
    st.sampled_from(["", "2", "16", "4x4", "fp8", "bf16", "memory", "sram", "vllm", "none", "heads", "1e3", "top-p"]),
    st.integers().map(str),
    st.floats().map(str),
)


@pytest.mark.slow
@examples(12)
@given(
    st.lists(st.sampled_from(CASE_FIELDS), unique=True, max_size=6),
    st.lists(st.lists(text_cells, max_size=9), min_size=1, max_size=6),
)
def test_whatever_cells_hold_the_good_rows_are_answered(fields: list[str], rows: list[list[str]]) -> None:
    columns = ["model", "chip", "tp", *(name for name in fields if name not in ("model", "chip", "tp")), "label"]
    good = [*GOOD.split(","), *[""] * (len(columns) - 3)]
    mixed = [line for row in rows for line in (good, ["qwen3-8b", "h100-sxm", *row])]
    with tempfile.TemporaryDirectory() as folder:
        found = answered(Path(folder), table(columns, *mixed, good))
    assert len(found) == len(mixed) + 1
    for index, row in enumerate(found):
        if index % 2 == 0:
            assert is_alone(row)
        assert (row["fits"] == "true") == (row["reason"] == "")
        for name in ("ttft_s", "tpot_s", "output_tokens_per_s", "joules_per_output_token", "watts_per_chip"):
            assert row[name] == "" or 0 <= float(row[name]) < float("inf")
        assert "fault of its own" not in row["reason"]


@pytest.mark.slow
def test_rows_together_are_what_they_are_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are priced in groups and batches; none of them knows of the others."""
    rows = [
        {"model": model, "chip": chip, "tp": tp, "isl": isl, "concurrency": load, "engine": engine}
        for model, engine in (("qwen3-30b-a3b", ""), ("llama-3.1-8b", "none"))
        for chip in ("h100-sxm", "tpu-v5e")
        for tp in (1, 4)
        for isl in (17, 4000, 400_000)
        for load in (1, 300)
    ]
    monkeypatch.setattr(cases_module, "ROWS_AT_A_TIME", 7)
    found = answered(tmp_path, table([*rows[0]], *([str(cell) for cell in row.values()] for row in rows)))
    assert {row["fits"] for row in found} == {"true", "false"}
    for row, answer in zip(rows, found, strict=True):
        (alone,) = predict(FACTS, [Case.of(**{**row, "engine": row["engine"] or None})])
        assert answer["reason"] == alone.reason
        assert answer["note"] == alone.note
        assert answer["bound"] == (alone.bound or "")
        for name in ("ttft_s", "tpot_s", "joules_per_output_token", "usd_per_million_output_tokens"):
            value = getattr(alone, name)
            assert answer[name] == "" if value is None else float(answer[name]) == pytest.approx(value, rel=1e-12)


def test_flags_hold_for_rows_that_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "cases.csv", tmp_path / "answers.csv"
    source.write_text("chip,tp,isl\nh100-sxm,2,\nh100-sxm,2,2000\nh200,,\n")
    arguments = ["predict", "--cases", str(source), "--out", str(out), "--json"]
    main([*arguments, "--model", "qwen3-32b", "--isl", "4k", "--tp", "4"])
    assert json.loads(capsys.readouterr().out)["question"]["isl"] == 4000
    rows = list(csv.DictReader(out.read_text().splitlines()))
    asked = [("h100-sxm", 2, 4000), ("h100-sxm", 2, 2000), ("h200", 4, 4000)]
    alone = predict(FACTS, [Case.of(model="qwen3-32b", chip=chip, tp=tp, isl=isl) for chip, tp, isl in asked])
    assert [float(row["ttft_s"]) for row in rows] == pytest.approx([answer.ttft_s for answer in alone])
    with pytest.raises(SystemExit):
        main(arguments)
    assert "has no column model" in capsys.readouterr().err


def test_a_file_for_the_answer_of_one_question_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "--model", "qwen3-32b", "--chip", "h100-sxm", "--out", str(tmp_path / "answer.csv")])
    assert stopped.value.code == 2
    assert "--out is where the answers of --cases go" in capsys.readouterr().err
