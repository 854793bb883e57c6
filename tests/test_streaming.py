"""Text that is larger than the memory: the same packings as in memory, byte for byte, also after a kill."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.distill.data import chunks, corpus, pieces, stored
from flashstill.distill.data.chats import Reading
from flashstill.distill.data.corpus import Corpus
from flashstill.distill.data.layouts import Document
from flashstill.distill.data.mixtures import mixture, shares
from flashstill.distill.data.packing import Packed, pack, pack_pieces
from flashstill.distill.data.rows import Tally
from flashstill.distill.data.splits import Sizes, packed_splits
from flashstill.distill.data.stored import write_packing
from flashstill.distill.data.stream import stream_of
from flashstill.distill.data.text import load_documents, shuffled
from flashstill.distill.data.windows import packed as packed_in_windows
from flashstill.distill.models import load_tokenizer
from flashstill.errors import BadInput
from flashstill.recipes import read_distillation
from tests.drawn_pieces import some_pieces
from tests.marks import examples

SIZES = Sizes(window_tokens=32, train_tokens=3200, heldout_tokens=320, out_of_domain_tokens=320)
ARRAYS = ("tokens", "target_bytes", "target_document", "mask", "starts")


def same(one: Packed, other: Packed) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)
    return arrays and one.hash == other.hash


@pytest.fixture
def tokenizer(tiny_teacher: Path) -> Any:
    return load_tokenizer(tiny_teacher)


@pytest.fixture
def source(tmp_path: Path, sample_text: str, other_text: str) -> tuple[str, str]:
    """Some hundred records, some of them twice, one that is bad; and a text of another kind, in part the same."""
    words = sample_text.split()
    rows: list[Any] = [{"text": " ".join(words[place : place + 40])} for place in range(0, len(words) - 40, 23)] * 2
    rows.insert(50, {"text": 3})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.txt").write_text(other_text + "\n\n" + rows[7]["text"])
    return str(tmp_path / "a.jsonl"), str(tmp_path / "b.txt")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is too large for the memory."""
    monkeypatch.setattr(corpus, "MOST_IN_MEMORY", 2000)
    monkeypatch.setattr(chunks, "CHUNK_CHARACTERS", 3000)
    monkeypatch.setattr(stored, "BLOCK_TOKENS", 100)
    monkeypatch.setattr(pieces, "BATCH_CHARACTERS", 700)


def split(source: tuple[str, str], tokenizer: Any, folder: Path | None, **changes: Any) -> dict[str, Packed]:
    reading = Reading(tokenizer=tokenizer, tally=Tally(most=0.1))
    found = packed_splits(*source, reading, dataclasses.replace(SIZES, **changes), 3, folder)
    assert (reading.tally.bad, reading.tally.good > 100) == (1, True)
    return found


@given(names=st.lists(st.text(max_size=3), unique=True, max_size=20), seed=st.integers(0, 9), data=st.data())
def test_an_order_is_that_of_a_sorted_list(names: list[str], seed: int, data: st.DataObject) -> None:
    texts = st.sampled_from(["one", "one  one", "one one", "two"])
    names = [name.encode("utf-8", "ignore").decode() for name in names]
    documents = [Document(name=name, text=data.draw(texts)) for name in dict.fromkeys(names)]
    distinct = {" ".join(document.text.split()): document for document in reversed(documents)}
    assert list(Corpus(documents, seed).documents()) == shuffled(distinct.values(), seed)


def test_a_corpus_on_the_disk_is_that_in_memory(source: tuple[str, str], small: None, tmp_path: Path) -> None:
    documents = load_documents(source[0], Tally(most=0.1))
    on_disk = Corpus(iter(documents * 2), 1, tmp_path / "c")
    assert on_disk.is_on_disk
    assert list(on_disk.documents()) == shuffled(documents, 1)
    on_disk.save(tmp_path / "c" / corpus.INDEX)
    again = Corpus.opened(tmp_path / "c")
    assert again is not None
    assert list(again.documents(5, 17)) == shuffled(documents, 1)[5:17]
    assert again.lengths.tolist() == [len(document.text) for document in shuffled(documents, 1)]


@examples(8)
@given(pieces_drawn=some_pieces(), length=st.integers(1, 3), windows=st.integers(1, 8))
def test_a_packing_on_the_disk_is_that_in_memory(
    tmp_path_factory: pytest.TempPathFactory, pieces_drawn: list[Any], length: int, windows: int
) -> None:
    path = tmp_path_factory.mktemp("p") / "train.npy"
    for whole in (False, True):
        try:
            wanted = pack_pieces(pieces_drawn, length, windows, whole)
        except BadInput:
            with pytest.raises(BadInput, match="one window needs"):
                write_packing(path, stream_of(pieces_drawn), length, windows, whole)
            continue
        assert same(write_packing(path, stream_of(pieces_drawn), length, windows, whole), wanted)
        assert same(Packed.load(path), wanted)
        assert isinstance(Packed.load(path).tokens.base, np.memmap)


@pytest.mark.slow
def test_splits_of_a_large_source_are_those_of_one_in_memory(
    source: tuple[str, str], tokenizer: Any, small: None, tmp_path: Path
) -> None:
    for changes in ({}, {"windows": "documents"}, {"train_tokens": 10**6}):
        wanted = split(source, tokenizer, None, **changes)
        found = split(source, tokenizer, tmp_path / "data", **changes)
        assert all(same(found[name], wanted[name]) for name in wanted)
        assert (tmp_path / "data" / "train.npy").exists()
    unmasked = split(source, tokenizer, tmp_path / "data", document_masks=False)
    assert unmasked["heldout"].starts is None
    assert unmasked["train"].starts is not None
    assert not unmasked["train"].starts.any()


@pytest.mark.slow
def test_a_kill_costs_one_chunk_at_most(
    source: tuple[str, str], tokenizer: Any, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_CHARACTERS", 1000)
    split(source, tokenizer, tmp_path / "straight")
    whole = (tmp_path / "straight" / "train.npy").read_bytes()
    written: list[str] = []
    write = chunks._write

    def killed(path: Path, *rest: Any) -> None:
        if len(written) % 3 == 2:
            written.append("killed")
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, *rest)

    monkeypatch.setattr(chunks, "_write", killed)
    kills = 0
    for _ in range(50):
        try:
            split(source, tokenizer, tmp_path / "shot")
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills >= 2
    names = [name for name in written if name != "killed"]
    assert len(set(names)) == len(names), "no chunk is tokenised twice"
    assert (tmp_path / "shot" / "train.npy").read_bytes() == whole
    assert not list((tmp_path / "shot").glob("**/*.part"))


@pytest.mark.slow
def test_encodings_do_not_depend_on_batches_and_threads(
    tokenizer: Any, source: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = load_documents(source[0], Tally(most=0.1))
    wanted = pack(documents, tokenizer, 32, 10**6)
    monkeypatch.setattr(pieces, "BATCH_CHARACTERS", 1)
    assert same(pack(documents, tokenizer, 32, 10**6), wanted)
    others = [Document(name="n", text="naïve café № 🙂 e\u0301 <|end|> \u00a0"), Document(name="m", text="\t a")]
    for document, piece in zip(documents + others, pieces.text_pieces(documents + others, tokenizer), strict=True):
        assert piece.tokens[1:-1].tolist() == tokenizer(document.text, add_special_tokens=False)["input_ids"]
        assert piece.target_bytes[1:-1].sum() == len(document.text.encode())


def test_windows_begin_at_documents_when_asked(tokenizer: Any, source: tuple[str, str]) -> None:
    documents = load_documents(source[0], Tally(most=0.1))
    reading = Reading(tokenizer=tokenizer)
    packed = packed_in_windows(documents, reading, 64, 10**6, kind="documents")
    framed = {tuple(piece.tokens.tolist()) for piece in pieces.text_pieces(documents, tokenizer)}
    cut = {tokens[:65] for tokens in framed}
    assert packed.starts is not None
    assert packed.starts[:, 0].all()
    assert reading.tally.notes.total() == sum(len(tokens) > 65 for tokens in framed)
    for window in range(packed.windows):
        for part in packed.documents_in(window):
            tokens = tuple(packed.tokens[window, part.start : part.stop + 1].tolist())
            learned = int(packed.mask[window, part].sum())
            assert not learned or tokens[: learned + 1] in cut, "each document stands whole in one window"


class TestMixtures:
    @given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), windows=st.integers(6, 10_000))
    def test_shares_are_exact(self, weights: list[float], windows: int) -> None:
        counts = shares(weights, windows)
        assert sum(counts) == windows
        assert min(counts) >= 1
        exact = windows * np.asarray(weights) / sum(weights)
        if exact.min() >= 1:
            assert np.abs(np.asarray(counts) - exact).max() < 1

    def test_in_memory_and_on_the_disk(self, tokenizer: Any, source: tuple[str, str], tmp_path: Path) -> None:
        texts = [load_documents(each, Tally(most=0.1)) for each in source]
        parts = [pack(each, tokenizer, 32, 40) for each in texts]
        counts = [25, parts[1].windows + 2]
        mixed = mixture(parts, counts, ("a", "b"))
        assert np.array_equal(mixed.tokens[:25], parts[0].tokens[:25])
        assert np.array_equal(mixed.tokens[25:], np.concatenate([parts[1].tokens, parts[1].tokens[:2]]))
        owners = [set(mixed.target_document[rows].ravel().tolist()) - {-1} for rows in (slice(25), slice(25, None))]
        assert not owners[0] & owners[1]
        one = write_packing(tmp_path / "one.npy", stream_of(pieces.text_pieces(texts[0], tokenizer)), 32, 40)
        on_disk = mixture([one, parts[1]], counts, ("a", "b"), tmp_path / "train.npy")
        assert np.array_equal(on_disk.tokens, mixed.tokens)
        assert np.array_equal(on_disk.target_document >= 0, mixed.target_document >= 0)
        assert on_disk.hash == mixed.hash
        with pytest.raises(BadInput, match=r"tokens of b, which has .*: 4\.\d epochs, where 4 are the most"):
            mixture(parts, [25, parts[1].windows * 4 + 1], ("a", "b"))

    def test_a_recipe(self, tmp_path: Path) -> None:
        head = 'name = "a"\nteachers = [{model = "smollm2-135m-instruct"}]\nstudent = {keep_layers = 2}\n'
        (tmp_path / "web.txt").write_text("a")
        table = '[[mixture]]\nsource = "web.txt"\nweight = 3\n[[mixture]]\nsource = "cpython-code"\n'
        (tmp_path / "r.toml").write_text(head + table)
        recipe = read_distillation(tmp_path / "r.toml")
        assert recipe.sources == (str(tmp_path / "web.txt"), "cpython-code")
        assert (recipe.weights, recipe.routed) == ((3.0, 1.0), False)
        (tmp_path / "r.toml").write_text(head + table.replace("cpython-code", "web.txt"))
        with pytest.raises(BadInput, match="names a source twice"):
            read_distillation(tmp_path / "r.toml")
        (tmp_path / "r.toml").write_text(head + '[text]\nwindows = "document"\n')
        with pytest.raises(BadInput, match="documents"):
            read_distillation(tmp_path / "r.toml")
