"""Data that people have: every format and layout read as the same documents, bad records counted, nothing unbounded."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import random
from pathlib import Path
from typing import Any

import pytest

from flashstill import compressed
from flashstill.distill.data import json_rows
from flashstill.distill.data.layouts import Columns, Document, document_of
from flashstill.distill.data.rows import EARLY, Tally, Unusable
from flashstill.distill.data.text import load_documents
from flashstill.errors import BadInput
from tests.marks import slow

TURNS = [
    [("user", "What is a cache?"), ("assistant", "Memory that is near, naïve or not.")],
    [("system", "Be short."), ("user", "And HBM?"), ("assistant", "Far."), ("user", "SRAM?"), ("assistant", "Near.")],
]
MESSAGES = [[{"role": role, "content": content} for role, content in turns] for turns in TURNS]


def said(documents: list[Document]) -> list[list[tuple[str, str]]]:
    """Roles and contents of conversations."""
    return [
        [(each["role"], each["content"]) for each in document.chat.messages] for document in documents if document.chat
    ]


def rows_as(name: str, rows: list[dict[str, Any]]) -> bytes:
    """The content of a file of rows in the format that its suffix says."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if name.endswith(".gz"):
        return gzip.compress(lines)
    if name.endswith(".bz2"):
        return bz2.compress(lines)
    if name.endswith(".xz"):
        return lzma.compress(lines[:40]) + lzma.compress(lines[40:])  # two streams, one after another
    if name.endswith(".zst"):
        import pyarrow

        whole: bytes = pyarrow.Codec("zstd").compress(lines, asbytes=True)
        return whole
    if name.endswith(".json"):
        if name.startswith("object"):
            return json.dumps({"version": 1, "data": rows}).encode()
        return json.dumps(rows, indent=1).encode() if name.startswith("array") else b" ".join(lines.splitlines())
    return lines


FILES = [
    "a.jsonl", "a.ndjson", "a.jsonl.gz", "a.jsonl.bz2", "a.jsonl.xz", "a.jsonl.zst", "array.json", "object.json",
    "a.json",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_one_conversation_in_every_format(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(rows_as(name, [{"messages": each} for each in MESSAGES]))
    assert said(load_documents(str(tmp_path / name))) == TURNS


def test_small_chunks_of_json_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": "é" * length, "n": length} for length in range(1, 40)]
    monkeypatch.setattr(json_rows, "CHUNK", 3)
    for name in ("array.json", "a.json"):
        (tmp_path / name).write_bytes(rows_as(name, rows))
        assert [each.text for each in load_documents(str(tmp_path / name))] == [row["text"] for row in rows]


@pytest.mark.slow
class TestColumns:
    """Parquet and Arrow with nested columns, and what `datasets.save_to_disk` leaves, read by pyarrow alone."""

    @pytest.mark.parametrize("name", ["a.parquet", "stream.arrow", "file.arrow"])
    def test_nested(self, tmp_path: Path, name: str) -> None:
        table_to(tmp_path / name, {"messages": MESSAGES, "id": [1, 2]})
        assert said(load_documents(str(tmp_path / name))) == TURNS

    def test_categories_of_several_row_groups(self, tmp_path: Path) -> None:
        """Roles as categories, as pandas and polars write them: every row group has a dictionary of its own."""
        import pyarrow
        import pyarrow.parquet

        flat = [message for turns in MESSAGES for message in turns]
        columns = [pyarrow.array([each["role"] for each in flat]).dictionary_encode()]
        columns += [pyarrow.array([each["content"] for each in flat])]
        objects = pyarrow.StructArray.from_arrays(columns, names=["role", "content"])
        ends = [0]
        for turns in MESSAGES:
            ends.append(ends[-1] + len(turns))
        table = pyarrow.table({"messages": pyarrow.ListArray.from_arrays(ends, objects)})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1)
        assert said(load_documents(str(tmp_path / "a.parquet"))) == TURNS

    def test_call_of_a_tool(self, tmp_path: Path) -> None:
        call = {"type": "function", "function": {"name": "add", "arguments": json.dumps({"a": 1})}}
        calls = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "tool_calls": [call]}]
        table_to(tmp_path / "a.parquet", {"messages": [calls], "tools": [json.dumps([{"name": "add"}])]})
        chat = load_documents(str(tmp_path / "a.parquet"))[0].chat
        assert chat is not None
        assert chat.messages[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1}}
        assert set(chat.messages[0]) == {"role", "content"}, "null fields of other messages are gone"
        assert chat.tools == ({"name": "add"},)

    def test_saved_to_disk(self, tmp_path: Path) -> None:
        for split, messages in (("train", MESSAGES), ("test", MESSAGES[:1])):
            (tmp_path / "saved" / split).mkdir(parents=True)
            table_to(tmp_path / "saved" / split / "data-00000-of-00001.arrow", {"messages": messages})
            state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
            (tmp_path / "saved" / split / "state.json").write_text(json.dumps(state))
            (tmp_path / "saved" / split / "dataset_info.json").write_text("{}")
        assert said(load_documents(f"{tmp_path}/saved/train")) == TURNS
        (tmp_path / "saved" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
        assert said(load_documents(f"{tmp_path}/saved:test")) == TURNS[:1]
        with pytest.raises(BadInput, match=r"has the splits train, test; name one, as .*saved:train"):
            load_documents(f"{tmp_path}/saved")
        with pytest.raises(BadInput, match="unknown split 'tset'; the nearest known: test"):
            load_documents(f"{tmp_path}/saved:tset")

    def test_no_column(self, tmp_path: Path) -> None:
        table_to(tmp_path / "a.parquet", {"question": ["?"], "answer": ["!"]})
        with pytest.raises(BadInput, match="its columns are question, answer"):
            load_documents(str(tmp_path / "a.parquet"))
        chats = load_documents(str(tmp_path / "a.parquet"), columns=Columns(prompt="question", completion="answer"))
        assert [each.learned for each in chats] == [["!"]]


def table_to(path: Path, columns: dict[str, list[Any]]) -> None:
    """Write a table as Parquet, or as an Arrow stream, or as an Arrow file where the name says so."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(columns)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
        return
    new = pyarrow.ipc.new_file if path.stem == "file" else pyarrow.ipc.new_stream
    with new(str(path), table.schema) as writer:
        writer.write_table(table)


def test_a_split_of_plain_files(tmp_path: Path) -> None:
    for name, text in (("train-00000-of-00002.jsonl", "a"), ("train/x.jsonl", "b"), ("test.jsonl", "c")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"text": text}))
    assert sorted(each.text for each in load_documents(f"{tmp_path}:train")) == ["a", "b"]
    assert len(load_documents(str(tmp_path))) == 3
    with pytest.raises(BadInput, match="no file of a split 'val'"):
        load_documents(f"{tmp_path}:val")


def test_other_readers_of_csv_keep_their_limit(tmp_path: Path) -> None:
    path, before = tmp_path / "a.csv", csv.field_size_limit()
    path.write_text("text\n" + "long " * 50_000 + "\nshort\n")
    rows = json_rows.table_rows(path, ",")
    assert len(next(rows).value["text"]) == 250_000
    assert csv.field_size_limit() == before


def test_columns_without_a_name_are_told_by_their_place(tmp_path: Path) -> None:
    """An index that pandas wrote, and the commas at the end of lines of a spreadsheet: none takes another's place."""
    (tmp_path / "a.csv").write_text(",text,,\n0,words,x,y\n")
    assert [row.value for row in json_rows.table_rows(tmp_path / "a.csv", ",")] == [
        {"column 1": "0", "text": "words", "column 3": "x", "column 4": "y"}
    ]


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_tables_of_text(tmp_path: Path, name: str, mark: str) -> None:
    quoted = ['"two\nlines, and ; too"', '"say ""x"""']
    (tmp_path / name).write_text("\ufeff" + f"prompt{mark}completion\n{quoted[0]}{mark}{quoted[1]}\n", encoding="utf-8")
    document = load_documents(str(tmp_path / name))[0]
    assert (document.text, document.learned) == ('two\nlines, and ; toosay "x"', ['say "x"'])


class TestLayouts:
    """The same conversation in every layout that people use."""

    @pytest.mark.parametrize(
        ("record", "expected"),
        [
            ({"messages": MESSAGES[1], "text": "not this"}, TURNS[1]),
            ({"messages": json.dumps(MESSAGES[1])}, TURNS[1]),
            ({"messages": MESSAGES[1][1:], "system": "Be short."}, TURNS[1]),
            ({"conversations": [{"from": {"user": "human", "assistant": "gpt"}.get(role, role), "value": text}
                                for role, text in TURNS[1]]}, TURNS[1]),
            ({"prompt": MESSAGES[0][:1], "completion": MESSAGES[0][1:]}, TURNS[0]),
            ({"prompt": MESSAGES[0][:1], "completion": TURNS[0][1][1]}, TURNS[0]),
            ({"query": TURNS[0][0][1], "response": TURNS[0][1][1]}, TURNS[0]),
            ({"instruction": TURNS[0][0][1], "input": "", "output": TURNS[0][1][1]}, TURNS[0]),
            ({"instruction": "Add.", "input": "1, 2", "output": "3", "history": [["a", "b"]]},
             [("user", "a"), ("assistant", "b"), ("user", "Add.\n\n1, 2"), ("assistant", "3")]),
            ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                           {"role": "assistant", "content": None, "reasoning_content": "hm"}]},
             [("user", "ab"), ("assistant", "")]),
        ],
    )  # fmt: skip
    def test_said(self, record: dict[str, Any], expected: list[tuple[str, str]]) -> None:
        assert said([document_of(record, "x", Columns())]) == [expected]

    def test_what_is_learned(self) -> None:
        turns = [*MESSAGES[1][:2], {**MESSAGES[1][2], "weight": 0}, *MESSAGES[1][3:]]
        assert document_of({"messages": turns}, "x", Columns()).learned == ["Near."]
        asked = {"prompt": MESSAGES[1][:4], "completion": MESSAGES[1][4:]}
        assert document_of(asked, "x", Columns()).learned == ["Near."], "not the answer within the prompt"
        called = {
            "conversations": [{"from": "human", "value": "?"}, {"from": "function_call", "value": '{"name": "f"}'}]
        }
        chat = document_of(called, "x", Columns()).chat
        assert chat is not None
        assert chat.messages[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": {}}

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            ({}, 'has no "text" string'),
            ({"txt": "a"}, 'none of "messages", .* it has txt'),
            ({"text": 3}, 'has no "text" string'),
            ({"messages": []}, "has no list of messages"),
            ({"messages": [{"content": "a"}]}, 'has no "role" in message 1'),
            ({"messages": MESSAGES[0][:1]}, "has no assistant message"),
            (
                {"messages": [{"role": "user", "content": "a"}, {"role": "asistant", "content": "b"}]},
                r"no assistant message to learn from; its roles are \['user', 'asistant'\]",
            ),
            ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "holds a part of type 'image'"),
            ({"messages": [{"role": "user", "content": 3}]}, "has no text in message 1"),
            ({"conversations": [{"from": "alien", "value": "a"}]}, "no known sender"),
            ({"messages": [{"role": "user", "content": "\ud800"}]}, "no valid Unicode"),
            ({"prompt": "a", "completion": ""}, "empty"),
            ({"messages": MESSAGES[0], "tools": [3]}, '"tools" that are no list'),
            ([1], "none of"),
        ],
    )
    def test_bad_ones(self, record: Any, reason: str) -> None:
        with pytest.raises(Unusable, match=reason):
            document_of(record, "x", Columns())

    def test_arbitrary_records_never_raise_anything_else(self) -> None:
        drawn = random.Random(0)
        leaves: list[Any] = [
            None,
            "",
            "a",
            "[",
            "[1]",
            3,
            True,
            [],
            {},
            [[]],
            [{}],
            [{"role": 1}],
            [{"from": "gpt"}],
            {"x": 1},
        ]
        names = sorted(Columns().names)
        for _ in range(3000):
            record = {name: drawn.choice(leaves) for name in drawn.sample(names, 3)}
            if drawn.random() < 0.5:
                record["messages"] = [
                    {key: drawn.choice(leaves) for key in ("role", "content", "tool_calls", "weight")}
                ]
            try:
                document_of(record, "x", Columns())
            except Unusable:
                continue


def write(path: Path, text: str) -> Path:
    """A file of text."""
    path.write_text(text, encoding="utf-8")
    return path


class TestBadRecords:
    """Bad records are counted and skipped up to a share, then the first is named, with the reasons counted."""

    def write(self, folder: Path, good: int, bad: list[str]) -> str:
        lines = [json.dumps({"text": f"text number {number}"}) for number in range(good)]
        (folder / "a.jsonl").write_text("\n".join([*lines[:1], *bad, *lines[1:]]))
        return str(folder / "a.jsonl")

    def test_skipped(self, tmp_path: Path) -> None:
        tally = Tally()
        assert len(load_documents(self.write(tmp_path, 200, ["{", '{"text": 1}']), tally)) == 200
        assert tally.as_dict()["reasons"] == {"is not JSON": 1, 'has no "text" string': 1}
        assert tally.first.endswith("a.jsonl, line 2 is not JSON")

    def test_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"line 2 is not JSON; 3 of 103 records .*is not JSON: 2; has no .*1\.00%"):
            load_documents(self.write(tmp_path, 100, ["{", "]", '{"text": 1}']))

    def test_nothing_that_can_be_used(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="line 1 is not JSON; no record of data"):
            load_documents(str(write(tmp_path / "a.jsonl", "{")), Tally(most=1.0))

    def test_reasons_are_bounded(self) -> None:
        tally = Tally(most=1.0)
        for number in range(1000):
            tally.skip("here", f"is refused: {number}")
        assert tally.bad == 1000
        assert len(tally.reasons) <= 201

    def test_refused_before_the_end(self, tmp_path: Path) -> None:
        tally = Tally()
        with pytest.raises(BadInput, match="line 2 is not JSON"):
            load_documents(self.write(tmp_path, 3, ["{"] * 50 * EARLY), tally)
        assert tally.bad == EARLY

    def test_a_line_without_end_and_one_that_is_not_utf_8(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_rows, "MOST_LINE_CHARACTERS", 1000)
        content = b'{"text": "a"}\n' + b"x" * 5000 + b'\n{"text": "\xff"}\n{"text": "b"}'
        (tmp_path / "a.jsonl").write_bytes(content)
        tally = Tally(most=0.5)
        assert [each.text for each in load_documents(str(tmp_path / "a.jsonl"), tally)] == ["a", "b"]
        assert tally.reasons == {"is longer than 1,000 characters": 1, "is not UTF-8": 1}


class TestHostileFiles:
    """Files that unfold without end, or are damaged: one sentence."""

    @pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
    def test_bombs(self, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compressed, "FREE_BYTES", 2**14)
        monkeypatch.setattr(compressed, "MOST_RATIO", 2)
        name = f"a.jsonl.{suffix}"
        (tmp_path / name).write_bytes(rows_as(name, [{"text": "same"}] * 4_000))
        with pytest.raises(BadInput, match="unfolds to more than 0 MiB, 2 times its size"):
            load_documents(str(tmp_path / name))

    @pytest.mark.parametrize("suffix", ["gz", "zst", *slow("bz2", "xz")])
    @pytest.mark.parametrize("part", [slice(0, -9), *slow(slice(4, None))])
    def test_damaged(self, tmp_path: Path, suffix: str, part: slice) -> None:
        name = f"a.jsonl.{suffix}"
        rows = [{"text": str(random.Random(number).random())} for number in range(2000)]
        (tmp_path / name).write_bytes(rows_as(name, rows)[part])
        with pytest.raises(BadInput, match=r"cannot be read|not JSON|UTF-8"):
            load_documents(str(tmp_path / name))

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("[{}, {", "record 2 is not JSON"),
            ('[{"text": "a"}', "ends inside its array"),
            ("[" * 5000, "nests too deeply"),
            ('[{"text": "a"}] garbage', None),
            ("", "holds no text"),
        ],
    )
    def test_json(self, tmp_path: Path, content: str, reason: str | None) -> None:
        (tmp_path / "a.json").write_text(content)
        if reason is None:
            assert len(load_documents(str(tmp_path / "a.json"))) == 1
            return
        with pytest.raises(BadInput, match=reason):
            load_documents(str(tmp_path / "a.json"))
