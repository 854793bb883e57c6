"""Documents and windows: read, deduplicated, split without leaks, packed without losing a byte."""

from __future__ import annotations

import ast
import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill import compressed
from flashstill.distill.data import json_rows
from flashstill.distill.data.packing import Packed, pack
from flashstill.distill.data.text import (
    common_paragraphs,
    cpython_code,
    cpython_docs,
    load_documents,
    shuffled,
    without_paragraphs,
)
from flashstill.distill.data.text_files import Document
from flashstill.distill.models import load_tokenizer
from flashstill.errors import BadInput
from tests.marks import examples


@pytest.mark.slow
def test_the_three_formats_agree(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    texts = ["first document, naïve café", "second\n\nwith a blank line", "third"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "b.parquet")
    assert [document.text for document in load_documents(str(tmp_path / "a.jsonl"))] == texts
    assert [document.text for document in load_documents(str(tmp_path / "b.parquet"))] == texts
    (tmp_path / "c.txt").write_text("fourth", encoding="utf-8")
    assert len(load_documents(str(tmp_path))) == 4, "duplicates across files are dropped"


def test_a_plain_file_is_cut_at_blank_lines(text_file: Path, sample_text: str) -> None:
    documents = load_documents(str(text_file))
    assert len(documents) > 5
    assert "".join("".join(document.text for document in documents).split()) == "".join(sample_text.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("empty.txt", b"", "holds no text"),
        ("blank.txt", b" \n\n ", "holds no text"),
        ("latin.txt", "café".encode("latin-1"), "not UTF-8"),
        ("bad.jsonl", b'{"text": 3}\n', "line 1"),
        ("worse.jsonl", b"not json\n", "line 1 is not JSON"),
        ("none.parquet", b"PAR1 but not really", "Parquet"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=complaint):
        load_documents(str(path))


class TestAttacks:
    """Files of text that ask for more than they are worth: one sentence, in little time and memory."""

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            (r'{"text":"\ud800"}', "line 3 holds text that is no valid Unicode"),
            ('{"text":' + "[" * 100_000, "line 3 nests too deeply"),
            ('{"text":"' + "x" * 5000 + '"}', "line 3 is longer than 1,000 characters"),
            ('{"text":' + "9" * 900 + "}", 'line 3 has no "text" string'),
        ],
    )
    def test_lines(self, tmp_path: Path, line: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if "longer" in said:
            monkeypatch.setattr(json_rows, "MOST_LINE_CHARACTERS", 1000)
        (tmp_path / "a.jsonl").write_text(f'{{"text":"fine"}}\n\n{line}\n')
        with pytest.raises(BadInput, match=said):
            load_documents(str(tmp_path / "a.jsonl"))

    @pytest.mark.parametrize("source", ["/dev/zero", "/dev/stdin", "pipe.txt", "pipe.jsonl", "pipe.parquet"])
    def test_what_has_no_end(self, tmp_path: Path, source: str) -> None:
        if source.startswith("pipe"):
            os.mkfifo(tmp_path / source)
        with pytest.raises(BadInput, match="is not a regular file"):
            load_documents(str(tmp_path / source))

    @pytest.mark.parametrize("source", ["~nobody-of-that-name/x", "a\0b", "x" * 5000, ""])
    def test_names_that_are_none(self, source: str) -> None:
        with pytest.raises(BadInput, match="neither a file nor a directory"):
            load_documents(source)

    @pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
    def test_larger_than_the_memory(self, tmp_path: Path, name: str) -> None:
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**40)  # takes no room on the disk
        with pytest.raises(BadInput, match=r"larger than|holds more than"):
            load_documents(str(tmp_path / name))
        with pytest.raises(BadInput, match=r"larger than|holds more than"):
            load_documents(str(tmp_path))

    @pytest.mark.slow
    def test_pages_that_unfold(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ten million times the same text of a megabyte, which the file holds once."""
        import pyarrow
        import pyarrow.parquet

        rows = pyarrow.DictionaryArray.from_arrays(np.zeros(10_000_000, dtype=np.int32), ["x" * 2**20])
        pyarrow.parquet.write_table(pyarrow.table({"text": rows}), tmp_path / "a.parquet")
        assert (tmp_path / "a.parquet").stat().st_size < 2**20
        monkeypatch.setattr(compressed, "FREE_BYTES", 2**23)
        monkeypatch.setattr(compressed, "MOST_RATIO", 1)
        with pytest.raises(BadInput, match="decompresses to more than 8 MiB of text"):
            load_documents(str(tmp_path / "a.parquet"))

    @pytest.mark.slow
    def test_a_damaged_table(self, tmp_path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"text": [f"row {number} of the table" for number in range(200)]})
        pyarrow.parquet.write_table(table, tmp_path / "good.parquet")
        whole = (tmp_path / "good.parquet").read_bytes()
        for place in (3, len(whole) // 3, len(whole) - 200, len(whole) - 6):
            (tmp_path / "bad.parquet").write_bytes(whole[:place] + b"\xff\x7f\xff" + whole[place + 3 :])
            with contextlib.suppress(BadInput):  # some damage is not visible
                load_documents(str(tmp_path / "bad.parquet"))
        for place in (0, 4, len(whole) // 2, len(whole) - 1):
            (tmp_path / "bad.parquet").write_bytes(whole[:place])
            with pytest.raises(BadInput, match=r"Parquet|damaged"):
                load_documents(str(tmp_path / "bad.parquet"))

    @pytest.mark.slow
    def test_tables_without_text(self, tmp_path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"texts": ["a"]}), tmp_path / "a.parquet")
        with pytest.raises(BadInput, match='has no "text" column'):
            load_documents(str(tmp_path / "a.parquet"))
        pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None]}), tmp_path / "a.parquet")
        with pytest.raises(BadInput, match='row 1 has no "text" string'):
            load_documents(str(tmp_path / "a.parquet"))


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cpython-docs"):
        load_documents("cpython-doc")
    with pytest.raises(BadInput, match="holds no"):
        load_documents(str(tmp_path))


def test_exact_duplicates_go(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one  two"}\n{"text": "one two"}\n{"text": "three"}\n', encoding="utf-8")
    assert len(load_documents(str(path))) == 2


def test_no_paragraph_leaks() -> None:
    shared = "a paragraph that stands in the training text and in the held-out text alike, word for word, so it goes"
    training = [Document(name="t", text=f"before\n\n{shared}\n\nafter")]
    held = [
        Document(name="h", text=f"kept\n\n{shared.replace(' ', '  ')}\n\nalso kept"),
        Document(name="g", text=shared),
    ]
    (left,) = without_paragraphs(held, common_paragraphs(held, training))
    assert left.text.split() == ["kept", "also", "kept"]


def test_order_depends_on_the_seed_alone() -> None:
    documents = [Document(name=str(i), text=str(i)) for i in range(50)]
    assert shuffled(documents, 1) == shuffled(reversed(documents), 1) != shuffled(documents, 2)


@pytest.mark.slow
def test_the_built_in_corpus() -> None:
    docs, code = cpython_docs(), cpython_code()
    assert sum(len(document.text) for document in docs) > 500_000
    assert sum(len(document.text) for document in code) > 500_000
    folders = {folder for document in docs for folder in document.name.partition(":")[2].split("/")[:-1]}
    assert "unittest" in folders
    assert not folders & {"test", "tests", "site-packages"}
    assert not any(ast.get_docstring(ast.parse(document.text)) for document in code[:20])
    assert not any(line.lstrip().startswith("#") for document in code[:5] for line in document.text.splitlines())


def test_packing_covers_the_text(tiny_teacher: Path) -> None:
    tokenizer = load_tokenizer(tiny_teacher)
    documents = [Document(name=str(i), text=f"The café № {i} costs {'x' * i} naïve tokens 🙂. ") for i in range(40)]
    packed = pack(documents, tokenizer, 16, 10_000)
    assert (packed.tokens[1:, 0] == packed.tokens[:-1, -1]).all(), "windows overlap by one token"
    covered = packed.tokens[:, 1:].ravel()
    owners, sizes = packed.target_document.ravel(), packed.target_bytes.ravel()
    for index in range(int(owners.max())):  # the last document may be cut by the last window
        mine = owners == index
        assert tokenizer.decode(covered[mine]) == documents[index].text
        assert sizes[mine].sum() == len(documents[index].text.encode())
    assert (sizes[owners == -1] == 0).all()


@examples(25, suppress_health_check=[])
@given(text=st.text(min_size=1, max_size=200))
def test_bytes_are_exact_for_any_text(tiny_teacher: Path, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    documents = [Document(name="a", text=text or "a"), Document(name="b", text="padding " * 8)]
    packed = pack(documents, load_tokenizer(tiny_teacher), 2, 10_000)
    assert packed.target_bytes[packed.target_document == 0].sum() == len(documents[0].text.encode())


def test_saving_and_damage(tiny_teacher: Path, text_file: Path, tmp_path: Path) -> None:
    packed = pack(load_documents(str(text_file)), load_tokenizer(tiny_teacher), 32, 5)
    path = tmp_path / "packed.safetensors"
    packed.save(path)
    again = Packed.load(path)
    assert again.hash == packed.hash
    assert np.array_equal(again.target_bytes, packed.target_bytes)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="an incomplete packing file"):
        Packed.load(path)


def test_too_little_text_is_said(tiny_teacher: Path) -> None:
    with pytest.raises(BadInput, match="one window needs 64"):
        pack([Document(name="a", text="short")], load_tokenizer(tiny_teacher), 64, 5)
