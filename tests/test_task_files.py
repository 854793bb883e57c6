"""Task files are data: what would run code, be fetched or mean nothing is refused in one sentence."""

from __future__ import annotations

import codecs
import gzip
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from flashstill.errors import BadInput
from flashstill.evaluate import evaluate_models
from flashstill.evaluate.tasks.drawing import settings_of
from flashstill.evaluate.tasks.encoding import cut
from flashstill.evaluate.tasks.item_records import item_record, wilson
from flashstill.harness import process, tables
from flashstill.harness.files import read_task
from flashstill.harness.groups import check_place
from flashstill.harness.rows import dataset, objects
from tests.commands import refuse
from tests.marks import slow
from tests.task_files import COLOURS, write_task


def test_a_local_task_is_read(tmp_path: Path) -> None:
    found = read_task(write_task(tmp_path, COLOURS))
    assert (found.name, found.format) == ("colours", "json")
    assert found.data == {"test": (str(tmp_path / "items.jsonl"),), "train": (str(tmp_path / "items.jsonl"),)}
    again = read_task(write_task(tmp_path, COLOURS))
    assert again.digest == found.digest
    (tmp_path / "items.jsonl").write_text('{"question": "other"}\n')
    assert read_task(tmp_path / "task.yaml").digest != found.digest, "other data are another task"


def test_includes_are_merged_and_own_keys_win(tmp_path: Path) -> None:
    write_task(tmp_path, COLOURS)
    (tmp_path / "other.yaml").write_text("include: task.yaml\ntask: other\nnum_fewshot: 0\n")
    found = read_task(tmp_path / "other.yaml")
    assert (found.name, found.fields["num_fewshot"], found.fields["output_type"]) == ("other", 0, "multiple_choice")
    (tmp_path / "task.yaml").write_text("include: other.yaml\n")
    with pytest.raises(BadInput, match="form a circle"):
        read_task(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("process_docs: !function utils.process", "runs code (`!function`)"),
        ("metadata: !!python/object/apply:os.system ['true']", "a tag that is not plain data"),
        ("class: some.Task", "`class` runs code"),
        ("unsafe_code: true", "`unsafe_code` runs code"),
        ("use_prompt: promptsource:all", "`use_prompt` runs code or loads a package"),
        ("doc_to_image: picture", "images or sounds"),
        ("doc_to_txt: x", "unknown key of a task 'doc_to_txt'"),
        ("outputtype: x", "unknown key of a task 'outputtype'; the nearest known: output_type"),
        ("output_type: multiple_choices", "unknown output_type 'multiple_choices'; the nearest known: multiple_choice"),
        ("test_split: tests", "test_split: unknown split 'tests'; the nearest known: test"),
        ("dataset_path: jsonn", "unknown format of local data 'jsonn'; the nearest known: json"),
        ("dataset_kwargs: {data_files: 'https://example.org/x.jsonl'}", "nothing is downloaded: give a local file"),
        ("dataset_kwargs: {data_files: none.jsonl}", "none.jsonl cannot be read"),
        ("dataset_kwargs: {streaming: true}", "unknown key of dataset_kwargs 'streaming'"),
        ("- a list", "is not YAML"),
        ("include: 5", "`include` names files"),
        ("metadata: {version: 2026-01-01}", "datetime.date(2026, 1, 1) is neither text, number, list nor table; put"),
        ("metadata: {2026-01-01: x}", "datetime.date(2026, 1, 1) is neither text"),
        ("metadata: !!set {a, b}", "is neither text, number, list nor table"),
        ("? [a, b]", "is not YAML: found unhashable key"),
        ("metric_list: [acc]", "`metric_list` is a list of tables, such as `- metric: acc`"),
        ("num_fewshot: many", "`num_fewshot` is a number of examples, not 'many'"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, line: str, why: str) -> None:
    key = line.partition(":")[0]
    own = "\n".join(each for each in COLOURS.splitlines() if not each.startswith(f"{key}:"))
    path = write_task(tmp_path, f"{own}\n{line}\n")
    with pytest.raises(BadInput) as refused:
        read_task(path)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_anchors_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(BadInput, match="counting each use of an anchor"):
        read_task(write_task(tmp_path, "\n".join(lines)))


def test_merge_keys_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 9)]
    with pytest.raises(BadInput, match="its merge keys make more than 100,000 values"):
        read_task(write_task(tmp_path, "\n".join(lines)))
    few = COLOURS.replace("task: colours", "task: colours\nmetadata: &m {a: 1}\nfewshot_config: {<<: *m, b: 2}")
    assert read_task(write_task(tmp_path, few)).fields["fewshot_config"] == {"a": 1, "b": 2}


def test_includes_that_multiply_are_refused(tmp_path: Path) -> None:
    """Eight files that include the next one eight times would be 16 million files to read."""
    for n in range(8):
        (tmp_path / f"{n}.yaml").write_text(f"include: [{', '.join([f'{n + 1}.yaml'] * 8)}]\n")
    (tmp_path / "8.yaml").write_text("task: x\n")
    with pytest.raises(BadInput, match="form a circle, or are more than 16"):
        read_task(tmp_path / "0.yaml")


def test_lines_of_json_end_at_line_feeds_alone(tmp_path: Path) -> None:
    """U+2028, U+0085 and others may stand in a JSON text as they are."""
    path = tmp_path / "items.jsonl"
    path.write_text('{"a": "x\u2028y\x85z"}\r\n', encoding="utf-8")
    [row] = objects(path)
    assert row == {"a": "x\u2028y\x85z"}


@pytest.mark.parametrize("form", ["array", *slow("lines")])
def test_json_is_read_a_record_at_a_time(tmp_path: Path, form: str) -> None:
    """Of 12 MB no more than a few are held, not the whole text beside its rows."""
    path, item = tmp_path / "items.json", '{"question": "' + "x" * 5000 + '"}'
    between = "\n" if form == "lines" else ",\n"
    text = between.join([item] * 2400)
    path.write_text(text if form == "lines" else f" [{text}]", encoding="utf-8")
    tracemalloc.start()
    try:
        count = sum(1 for _ in objects(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 2400
    assert peak < 6e6 < path.stat().st_size


@pytest.mark.parametrize("name", ["items.json", "items.jsonl.gz"])
def test_an_array_is_known_by_its_first_character(tmp_path: Path, name: str) -> None:
    """Behind a byte order mark, blanks that fill more than one part, and compression."""
    path = tmp_path / name
    for text in ('[{"a": 1}, {"a": 2}]', '{"a": 1}\n{"a": 2}\n'):
        content = codecs.BOM_UTF8 + (b"\n" * 5000 + text.encode())
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        assert list(objects(path)) == [{"a": 1}, {"a": 2}]


def test_what_is_no_json_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    for text, why in (
        ("{}\n[1]\n", "line 2 is no JSON object"),
        ("{}\n{x\n", "line 2 is not JSON"),
        ("[{}, 3]", "record 2 is no JSON object"),
        (" \n", "holds no JSON objects, one a line"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=why):
            list(objects(path))


def csv_rows(folder: Path, text: str | bytes) -> list[dict[str, Any]]:
    content = text.encode() if isinstance(text, str) else text
    (folder / "a.csv").write_bytes(content)
    (folder / "spool").mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = tables.csv_table(folder / "a.csv", folder / "spool").to_pylist()
    return rows


class TestTables:
    """CSV and Parquet: some rows at a time, with the kinds of all rows, and hostile files end in a sentence."""

    def test_kinds_of_csv(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tables, "CELLS_AT_A_TIME", 8)  # a batch of two rows: kinds are those of all batches
        text = "q,label,share,ok,mixed,day,none\n"
        text += 'a,0,1,true,1,2026-01-01,\n"b, c\nd ""e""",1,NA,false,2,2026-01-02,\nf,,0.5,TRUE,3,2026-01-03,\n'
        text += "g,-3,7,true,x,2026-01-04,"
        rows = csv_rows(tmp_path, text)
        assert [row["q"] for row in rows] == ["a", 'b, c\nd "e"', "f", "g"]
        assert [row["label"] for row in rows] == [0, 1, None, -3]
        assert [row["share"] for row in rows] == [1.0, None, 0.5, 7.0]
        assert [row["ok"] for row in rows] == [True, False, True, True]
        assert [row["mixed"] for row in rows] == ["1", "2", "3", "x"]
        assert [row["day"] for row in rows] == [f"2026-01-0{n}" for n in range(1, 5)]
        assert [row["none"] for row in rows] == [""] * 4

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("a,b\n1\n", "row 1 .line 2. has 1 cells, where the first line names 2"),
            ("a,b\n1,2\n", None), ("a,b\n", "no rows below its first line"), ("", "no rows below"),
            ('a,b\n1,2\n3,"x\n4,5\n', "has a quote in row 2 that is never closed"),
            ('a,b\n1,2\n3,"x', "has a quote in row 2 that is never closed"),
            (b"a,b\n1,\xff\n", "is not UTF-8"),
            ("a,b\n1," + "x" * 3000 + "\n", "has a row of more than 2,000 characters"),
            ("a,b\n1,\"" + "x\n" * 1500 + "\"\n", "has a row of more than 2,000 characters"),
            ("a,b\n1,\"" + "x\n\",\"" * 500 + "\"\n", "has a row of more than 2,000 characters"),
            ("a,b,a\n1,2,3\n", "names the column 'a' twice in its first line"),
            ("a,b\n" + "1,2\n" * 1500, ""),
        ],
    )  # fmt: skip
    def test_hostile_csv(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Any, why: str | None) -> None:
        monkeypatch.setattr("flashstill.distill.data.json_rows.MOST_LINE_CHARACTERS", 2000)
        if not why:
            count = 1 if why is None else 1500  # a budget is one of a row
            assert csv_rows(tmp_path, text) == [{"a": 1, "b": 2}] * count
            return
        with pytest.raises(BadInput, match=why) as refused:
            csv_rows(tmp_path, text)
        assert "\n" not in str(refused.value)

    def test_large_rows_and_tables(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "a\n" + ("x" * 999 + "\n") * 40
        for name in ("PART_BYTES", "MOST_ROW_BYTES", "MOST_UNFOLDED_BYTES"):
            monkeypatch.setattr(tables, name, 50_000)
        assert len(csv_rows(tmp_path, text)) == 40
        with pytest.raises(BadInput, match="unfolds to more than"):
            csv_rows(tmp_path, text * 2)
        monkeypatch.setattr(tables, "MOST_ROW_BYTES", 900)
        monkeypatch.setattr(tables, "PART_BYTES", 900)
        with pytest.raises(BadInput, match="has a row of more than"):
            csv_rows(tmp_path, text)

    def test_parquet_is_written_to_the_disk_in_parts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One row group; lists, categories and nothing come as they are; files stay below the process's limit."""
        rows = [{"q": f"{n}" * 50, "choices": ["x", None], "label": n, "kind": "ab"[n % 2]} for n in range(1000)]
        table = pa.Table.from_pylist(rows)
        table = table.set_column(3, "kind", table["kind"].dictionary_encode())
        parquet.write_table(table, tmp_path / "a.parquet")
        monkeypatch.setattr(tables, "PART_BYTES", 10_000)
        monkeypatch.setattr(tables, "FILE_BYTES", 40_000)
        spool = tmp_path / "spool"
        spool.mkdir()
        assert tables.parquet_table(tmp_path / "a.parquet", spool).to_pylist() == rows
        assert max(each.stat().st_size for each in spool.iterdir()) < 60_000
        assert len(list(spool.iterdir())) > 3
        parquet.write_table(table[:0], tmp_path / "none.parquet")
        assert tables.parquet_table(tmp_path / "none.parquet", spool).num_rows == 0

    def test_categories_in_lists_and_objects_of_several_row_groups(self, tmp_path: Path) -> None:
        """pyarrow cannot join the dictionaries of two row groups inside a nested column."""
        roles = pa.array([f"r{n // 50}" for n in range(200)]).dictionary_encode()
        objects = pa.StructArray.from_arrays([roles, pa.array(range(200))], names=["role", "n"])
        table = pa.table({
            "list": pa.ListArray.from_arrays(range(0, 201, 2), objects),
            "fixed": pa.FixedSizeListArray.from_arrays(roles, 2),
            "map": pa.MapArray.from_arrays(range(0, 201, 2), pa.array(["a", "b"] * 100), roles),
        })  # fmt: skip
        parquet.write_table(table, tmp_path / "a.parquet", row_group_size=30)
        spool = tmp_path / "spool"
        spool.mkdir()
        assert tables.parquet_table(tmp_path / "a.parquet", spool).to_pylist() == table.to_pylist()

    def test_hostile_parquet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A kilobyte that stands for a megabyte in each of 3,000 rows is a file of a few kilobytes."""
        path, spool = tmp_path / "a.parquet", tmp_path / "spool"
        spool.mkdir()
        words = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["x" * 10_000]))
        parquet.write_table(pa.table({"a": words}), path, compression="zstd")
        assert path.stat().st_size < 10_000
        monkeypatch.setattr(tables, "MOST_UNFOLDED_BYTES", 2_000_000)
        with pytest.raises(BadInput, match=r"a\.parquet unfolds to more than 1 MiB"):
            tables.parquet_table(path, spool)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(BadInput, match="is not a Parquet file that can be read") as refused:
            tables.parquet_table(path, spool)
        assert "\n" not in str(refused.value)

    def test_files_with_other_columns(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        (tmp_path / "a.csv").write_text("q,label\na,1\n")
        (tmp_path / "b.csv").write_text("q,gold\na,1\n")
        with pytest.raises(BadInput, match=r"b\.csv has other columns than .*a\.csv"):
            dataset([str(tmp_path / name) for name in ("a.csv", "b.csv")], "csv")

    def test_memory_is_bounded(self) -> None:
        with pytest.raises(MemoryError), tables.bounded_memory(2**24):
            bytearray(2**27)
        assert len(bytearray(2**27)) == 2**27


def test_data_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    path = write_task(tmp_path, COLOURS)
    with (tmp_path / "items.jsonl").open("wb") as stream:
        stream.truncate(2**28 + 1)
    with pytest.raises(
        BadInput, match=r"items.jsonl is larger than 256 MiB, the most that is read of JSON and text; write"
    ):
        read_task(path)


def test_the_command_refuses_before_any_work(capsys: pytest.CaptureFixture[str], tiny_teacher: Path) -> None:
    assert "give a text with --data, or a task with --task" in refuse(capsys, "evaluate", tiny_teacher)
    for option in (("--items", "5"), ("--attempts", "4"), ("--chat",), ("--allow-task-code",)):
        said = refuse(capsys, "evaluate", tiny_teacher, "--data", "cpython-docs", *option)
        assert f"{option[0][2:].replace('-', '_')} is for tasks, and none is given" in said
    said = refuse(capsys, "evaluate", tiny_teacher, "--task", "arc_easy", "--attempts", "4")
    assert "attempts are made at problems with a verifier" in said


def test_settings_of_texts() -> None:
    greedy, stops = settings_of({"until": ["\n"], "max_gen_toks": 7, "temperature": 0.7, "do_sample": False}, (2,), 0)
    assert (greedy.temperature, greedy.new_tokens, greedy.stop, stops) == (0.0, 7, (2,), ["\n"])
    drawn, _ = settings_of({"temperature": 0.7, "do_sample": True, "top_p": 0.9}, (2,), 0)
    assert (drawn.temperature, drawn.top_p, drawn.new_tokens) == (0.7, 0.9, 256)
    with pytest.raises(BadInput, match="'num_return_sequences', which is not known"):
        settings_of({"num_return_sequences": 2}, (), 0)
    for odd in ({"max_gen_toks": "many"}, {"max_gen_toks": 0}, {"temperature": "hot"}, {"temperature": float("nan")},
                {"top_p": 7}, {"top_k": [1]}, {"until": 5}):  # fmt: skip
        with pytest.raises(BadInput, match=f"a task's generation_kwargs have {next(iter(odd))}: .*; expected a "):
            settings_of(odd, (), 0)
    assert cut("one.two\nthree", ["\n", "."]) == "one"
    assert cut("one", ["", "x"]) == "one"


def test_intervals_of_items() -> None:
    """Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662, 15 of 148 0.0624 to 0.1605, none of 20 to 0.1611."""
    for right, count, ends in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))):
        assert wilson(right, count) == pytest.approx(ends, abs=5e-5)
    ones: Any = np.ones(20)
    record = item_record(ones, ones, "mean", "m", "t", "acc", 40, 0)
    assert (record.value, record.high, record.documents, record.tokens) == (1.0, 1.0, 20, 40)
    assert record.low == pytest.approx(1 - 0.1611, abs=5e-5)
    shares = item_record(np.linspace(0.1, 0.9, 50), np.ones(50), "mean", "m", "t", "f", 0, 0)
    assert shares.low is not None
    assert shares.high is not None
    assert shares.value == pytest.approx(0.5)
    assert shares.low < 0.5 < shares.high
    bits = item_record(np.array([-20.0, -40.0]), np.array([10.0, 30.0]), "bits_per_byte", "m", "t", "b", 0, 0)
    assert bits.value == pytest.approx(60 / 40 / np.log(2))


def test_examples_belong_to_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval's process tells a digest of the items alone; other examples give other scores."""
    line = b'{"tasks": [{"name": "colours", "digest": "d", "items": 4}], "groups": []}'
    fake = SimpleNamespace(ask=lambda *_: line, end=lambda: None)
    monkeypatch.setattr(process, "_started", lambda is_apart: fake)
    monkeypatch.setattr(process, "need_lm_eval", lambda: None)
    task = write_task(tmp_path, COLOURS.replace("train: items", "train: shots"))
    digests = set()
    for shot in ("one", "two"):
        (tmp_path / "shots.jsonl").write_text(f'{{"question": "{shot}"}}\n')
        digests.add(process.Harness(str(task), None, False).tasks[0].digest)
    assert len(digests) == 2


def test_a_group_is_that_of_the_file_that_was_given(tmp_path: Path) -> None:
    """lm-eval takes it by its name: of its own tasks, or of another file beside; and it reads no file named .yml."""
    own, other = tmp_path / "own.yml", tmp_path / "other.yaml"
    own.touch()
    other.touch()
    check_place("glue", own, {"glue": SimpleNamespace(yaml_path=tmp_path / "." / "own.yml")})
    with pytest.raises(
        BadInput, match=r"the group 'glue', but lm-eval would run that of .*other\.yaml; give the group"
    ):
        check_place("glue", own, {"glue": SimpleNamespace(yaml_path=other)})
    for index in ({}, {"glue": SimpleNamespace(yaml_path=None)}):  # a tag has no file
        with pytest.raises(BadInput, match=r"the group 'glue', but lm-eval does not see it; .* the suffix \.yaml"):
            check_place("glue", own, index)


def test_tasks_are_refused_before_texts_are_scored(
    tiny_teacher: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flashstill.evaluate.evaluation.Scoring.scores", lambda self: pytest.fail("texts were scored"))
    with pytest.raises(BadInput, match=r"none\.toml"):
        evaluate_models([str(tiny_teacher)], [str(text_file)], tasks=["none.toml"], tokens=512, window_tokens=64,
                        arithmetic="fp32")  # fmt: skip
