"""Tokenise a corpus in chunks that are kept on the disk, so that a run that was killed goes on after its last one.

pieces-000000000-000004711.safetensors    the pieces of documents 0 to 4710: tokens, bytes, counts, tokens of each
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from flashstill.distill.data.chats import Reading, pieces_of
from flashstill.distill.data.corpus import Corpus
from flashstill.distill.data.pieces import Piece
from flashstill.distill.data.rows import Tally
from flashstill.files import make_directory, replacing
from flashstill.progress import Progress

CHUNK_CHARACTERS = 2**24


def tokenised(
    corpus: Corpus, first: int, reading: Reading, most_tokens: int, folder: Path, progress: Progress, name: str
) -> Iterator[Piece]:
    """The pieces of the documents of a corpus from place `first` on; see chats.py. name: of the progress bar."""
    make_directory(folder)
    total = float(corpus.lengths[first:].sum())
    with progress.task(name, total, "characters") as advance:
        for begin, stop in ranges(corpus, first):
            path = folder / f"pieces-{begin:09d}-{stop:09d}.safetensors"
            if not _is_there(path):
                own = dataclasses.replace(reading, tally=Tally(most=1.0))
                _write(path, list(pieces_of(corpus.documents(begin, stop), own, most_tokens)), own.tally)
            yield from _read(path, reading.tally)
            advance(float(corpus.lengths[begin:stop].sum()))


def ranges(corpus: Corpus, first: int) -> Iterator[tuple[int, int]]:
    """Places at which chunks begin and end."""
    summed = np.cumsum(corpus.lengths[first:])
    begin, before = first, 0
    while begin < len(corpus):
        stop = first + int(np.searchsorted(summed, before + CHUNK_CHARACTERS)) + 1
        stop = min(stop, len(corpus))
        yield begin, stop
        begin, before = stop, int(summed[stop - first - 1])


def _is_there(path: Path) -> bool:
    try:
        with safe_open(path, framework="np"):
            return True
    except (OSError, SafetensorError):
        return False


def _write(path: Path, pieces: list[Piece], tally: Tally) -> None:
    arrays: dict[str, Any] = {
        "sizes": np.asarray([len(piece.tokens) for piece in pieces], dtype=np.int64),
        "is_masked": np.asarray([piece.counts is not None for piece in pieces], dtype=np.uint8),
    }
    none = np.zeros(0, dtype=np.int32)
    arrays["tokens"] = np.concatenate([none, *(piece.tokens for piece in pieces)])
    arrays["target_bytes"] = np.concatenate([none, *(piece.target_bytes for piece in pieces)])
    masks = [piece.counts for piece in pieces if piece.counts is not None]
    arrays["counts"] = np.concatenate([np.zeros(0, dtype=np.bool_), *masks]).astype(np.uint8)
    counted = {"tally": tally.as_dict(), "names": [piece.name for piece in pieces]}
    with replacing(path) as temporary:
        save_file(arrays, temporary, metadata={"about": json.dumps(counted)})


def _read(path: Path, tally: Tally) -> Iterator[Piece]:
    arrays = load_file(path)
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["about"])
    tally.add(Tally.restored(about["tally"]))
    ends = np.cumsum(arrays["sizes"]).tolist()
    masks = 0
    for place, end in enumerate(ends):
        begin = ends[place - 1] if place else 0
        counts = None
        if arrays["is_masked"][place]:
            counts = arrays["counts"][masks : masks + end - begin].astype(np.bool_)
            masks += end - begin
        yield Piece(
            tokens=arrays["tokens"][begin:end], target_bytes=arrays["target_bytes"][begin:end], counts=counts,
            name=about["names"][place],
        )  # fmt: skip
