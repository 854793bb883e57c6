"""Pieces: a document as its tokenizer would begin it, and packed so that every token of it is a target once."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from flashstill.distill.data.packing import Packed, joined, pack, pack_pieces
from flashstill.distill.data.pieces import NO_TEXT, Piece, framing_of, text_pieces
from flashstill.distill.data.text_files import Document
from flashstill.distill.models import load_tokenizer
from tests.drawn_pieces import some_pieces

TEXTS = [Document(name=str(number), text=f"The cache holds {number} naïve tokens.") for number in range(6)]


@pytest.fixture
def tokenizer(tiny_teacher: Path) -> Any:
    return load_tokenizer(tiny_teacher)


def beginning_with(tokenizer: Any, *ids: int) -> Any:
    """A tokenizer that puts these ids before every text, as Llama 3 does with BOS."""
    tokenizer = copy.deepcopy(tokenizer)
    names = {f"<{number}>": number for number in ids}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*names, "$A"], pair=[*names, "$A", "$B"], special_tokens=list(names.items())
    )
    return tokenizer


def test_a_document_begins_as_the_tokenizer_begins_it(tokenizer: Any) -> None:
    end = tokenizer.eos_token_id
    assert framing_of(tokenizer).start == (end,)
    with_bos = beginning_with(tokenizer, 7, 9)
    assert (framing_of(with_bos).start, framing_of(with_bos).end) == ((7, 9), end)
    (piece,) = text_pieces(TEXTS[:1], with_bos)
    assert piece.tokens.tolist() == [*with_bos(TEXTS[0].text)["input_ids"], end]
    assert piece.target_bytes[[0, 1, -1]].tolist() == [NO_TEXT] * 3
    packed = pack(TEXTS, with_bos, 8, 100, whole=True)
    targets, document = packed.tokens[:, 1:].ravel(), packed.target_document.ravel()
    for index, text in enumerate(TEXTS):
        assert with_bos.decode(targets[document == index]) == text.text
    inputs, starts = packed.tokens[:, :-1].ravel(), packed.starts.ravel() if packed.starts is not None else None
    assert starts is not None
    assert inputs[np.flatnonzero(starts)].tolist() == [7] * len(TEXTS)
    assert not packed.mask.ravel()[:-8][targets[:-8] == 7].any(), "no document is asked for the start of the next"
    assert packed.mask.ravel()[targets == 9].all()


def test_text_without_a_start_of_its_own_shares_the_end_of_the_one_before(tokenizer: Any) -> None:
    packed = pack(TEXTS, tokenizer, 8, 100, whole=True)
    assert packed.starts is not None
    inputs, starts = packed.tokens[:, :-1].ravel(), packed.starts.ravel()
    ends = np.flatnonzero(inputs == tokenizer.eos_token_id)
    assert np.flatnonzero(starts).tolist() == ends[: len(TEXTS)].tolist()
    assert packed.mask.sum() == sum(len(piece.tokens) - 1 for piece in text_pieces(TEXTS, tokenizer))


def plainly(pieces: list[Piece], length: int) -> list[tuple[int, int, int, bool, bool]]:
    """Reference, token by token: (token, bytes, document, counts, starts)."""
    rows: list[tuple[int, int, int, bool, bool]] = []
    for index, piece in enumerate(pieces):
        for place, token in enumerate(piece.tokens.tolist()):
            first = place == 0
            if first and rows and rows[-1][0] == token:
                rows[-1] = (*rows[-1][:4], True)
                continue
            counted = not first and (piece.counts is None or bool(piece.counts[place]))
            is_text = counted and piece.target_bytes[place] >= 0
            size, owner = (int(piece.target_bytes[place]), index) if is_text else (0, -1)
            rows.append((token, size, owner, counted, first))
    return rows[: (len(rows) - 1) // length * length + 1]


@given(pieces=some_pieces(), length=st.integers(1, 3))
def test_any_pieces_are_packed_as_token_by_token(pieces: list[Piece], length: int) -> None:
    rows = plainly(pieces, length)
    if len(rows) <= length:
        return
    packed = pack_pieces(pieces, length, 1000)
    assert packed.starts is not None
    first = [(int(packed.tokens[0, 0]), 0, -1, False, bool(packed.starts[0, 0]))]
    targets = zip(
        packed.tokens[:, 1:].ravel().tolist(), packed.target_bytes.ravel().tolist(),
        packed.target_document.ravel().tolist(), packed.mask.ravel().tolist(), strict=True,
    )  # fmt: skip
    starts = [*packed.starts.ravel()[1:].astype(bool).tolist(), rows[-1][4]]
    assert first + [(*target, start) for target, start in zip(targets, starts, strict=True)] == rows


def test_document_starts_are_kept(tokenizer: Any, tmp_path: Path) -> None:
    packed = pack(TEXTS, tokenizer, 8, 100)
    packed.save(tmp_path / "p.safetensors")
    again = Packed.load(tmp_path / "p.safetensors")
    assert again.hash == packed.hash
    twice = joined([packed, packed]).first(packed.windows)
    assert again.starts is not None
    assert twice.starts is not None
    assert np.array_equal(again.starts, twice.starts)
