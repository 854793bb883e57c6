"""The documents of a source in a pseudo-random order, without duplicates; on the disk if they are many.

    order       by SHA-256 of "seed:name", as a list that is sorted by it
    duplicates  the same text up to white space; the first of a source is kept

A source of more than `MOST_IN_MEMORY` characters is distributed by the first byte of the order's digest over 256 files,
each of which is sorted when it is read (an external bucket sort).  In memory are then two digests of 16 bytes, a length
and a place for each document, and a 256th of the text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from flashstill.distill.data.layouts import Chat, Document
from flashstill.files import make_directory, replacing

MOST_IN_MEMORY = 2**26
"""characters of text"""
FILES = 256
INDEX = "order.safetensors"
_Digests = npt.NDArray[np.void]


class Corpus:
    """lengths [N]: characters of each document, in the order in which `documents` yields them."""

    def __init__(self, documents: Iterable[Document], seed: int, folder: Path | None = None) -> None:
        """folder: for a source that is not held in memory; None to hold any."""
        self._folder, self._held = folder, _Filling(seed)
        for document in documents:
            self._held.add(document)
            if folder is not None and self._held.characters > MOST_IN_MEMORY:
                self._held.move_to(folder)
        self._finish()

    def _finish(self) -> None:
        filling = self._held
        self._seed = filling.seed
        kept = _firsts(filling.texts)
        order = np.argsort(filling.keys[kept], order=("high", "low"), kind="stable")
        self._places = kept[order]
        self.lengths = np.asarray(filling.lengths, dtype=np.int64)[self._places]
        self._files = filling.close()
        self._documents = None if self._files else [filling.documents[place] for place in self._places]
        self._per_file = np.bincount(filling.first_bytes[self._places], minlength=FILES)
        self._kept = np.zeros(len(filling.lengths), dtype=np.bool_)
        self._kept[kept] = True

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def duplicates(self) -> int:
        """Number of documents of the source that were left out, as the same text stands in another."""
        return len(self._kept) - len(self)

    @property
    def is_on_disk(self) -> bool:
        """Whether the text is in files rather than in memory."""
        return self._documents is None

    def documents(self, first: int = 0, stop: int | None = None) -> Iterator[Document]:
        """The documents from place `first` to `stop`; files before them are not read."""
        last = len(self) if stop is None else min(stop, len(self))
        if self._documents is not None:
            yield from self._documents[first:last]
            return
        begin = 0
        for number, count in enumerate(self._per_file.tolist()):
            end = begin + count
            if begin < last and end > first:
                yield from self._sorted(number)[max(0, first - begin) : last - begin]
            begin = end

    def _sorted(self, number: int) -> list[Document]:
        assert self._folder is not None
        rows = []
        with _file(self._folder, number).open(encoding="utf-8") as stream:
            for line in stream:
                row = json.loads(line)
                if self._kept[row["place"]]:
                    rows.append((_digest(f"{self._seed}:{row['name']}"), _document(row)))
        return [document for _, document in sorted(rows, key=lambda row: row[0])]

    def save(self, path: Path) -> None:
        """Write what is in memory of a corpus on the disk, so that it can be opened again."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "lengths": self.lengths, "places": self._places.astype(np.int64), "kept": self._kept.astype(np.uint8),
            "per_file": self._per_file.astype(np.int64), "seed": np.asarray([self._seed], dtype=np.int64),
        }  # fmt: skip
        with replacing(path) as temporary:
            save_file(arrays, temporary)

    @staticmethod
    def opened(folder: Path) -> Corpus | None:
        """A corpus that `save` wrote to the index of its folder; None if there is none, or it is damaged."""
        corpus = Corpus.__new__(Corpus)
        try:
            arrays = load_file(folder / INDEX)
            corpus.lengths, corpus._places = arrays["lengths"], arrays["places"]
            corpus._kept, corpus._per_file = arrays["kept"].astype(np.bool_), arrays["per_file"]
            corpus._seed = int(arrays["seed"][0])
        except (OSError, SafetensorError, KeyError):
            return None
        corpus._folder, corpus._documents, corpus._files = folder, None, True
        return corpus


class _Filling:
    """A corpus while its source is read."""

    def __init__(self, seed: int) -> None:
        self.seed, self.characters = seed, 0
        self.documents: list[Document] = []
        self.lengths: list[int] = []
        self._keys, self._texts = bytearray(), bytearray()
        self._streams: list[IO[str]] = []
        self._stack = contextlib.ExitStack()

    def add(self, document: Document) -> None:
        key = _digest(f"{self.seed}:{document.name}")
        self._keys += key
        self._texts += _digest(" ".join(document.text.split()))
        self.lengths.append(len(document.text))
        self.characters += len(document.text)
        if self._streams:
            self._write(document, len(self.lengths) - 1, key)
        else:
            self.documents.append(document)

    def move_to(self, folder: Path) -> None:
        """From now on documents go to files."""
        if self._streams:
            return
        make_directory(folder)
        for number in range(FILES):
            self._streams.append(self._stack.enter_context(_file(folder, number).open("w", encoding="utf-8")))
        for place, document in enumerate(self.documents):
            self._write(document, place, bytes(self._keys[16 * place : 16 * place + 16]))
        self.documents = []

    def _write(self, document: Document, place: int, key: bytes) -> None:
        row: dict[str, Any] = {"place": place, "name": document.name, "text": document.text}
        if document.prompt_characters:
            row["prompt_characters"] = document.prompt_characters
        if document.chat is not None:
            row["chat"] = {each.name: getattr(document.chat, each.name) for each in dataclasses.fields(document.chat)}
        self._streams[key[0]].write(json.dumps(row) + "\n")

    def close(self) -> bool:
        """Whether the documents are in files."""
        self._stack.close()
        return bool(self._streams)

    @property
    def keys(self) -> _Digests:
        return np.frombuffer(bytes(self._keys), dtype=[("high", ">u8"), ("low", ">u8")])

    @property
    def first_bytes(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(bytes(self._keys), dtype=np.uint8)[::16]

    @property
    def texts(self) -> _Digests:
        return np.frombuffer(bytes(self._texts), dtype="V16")


def _firsts(texts: _Digests) -> npt.NDArray[np.int64]:
    """Places of the documents whose text is not that of an earlier one, ascending."""
    words = texts.view([("high", ">u8"), ("low", ">u8")])
    order = np.argsort(words, order=("high", "low"), kind="stable")
    ordered = words[order]
    is_first = np.ones(len(words), dtype=np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return np.sort(order[is_first])


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def _file(folder: Path, number: int) -> Path:
    return folder / f"documents-{number:03d}.jsonl"


def _document(row: dict[str, Any]) -> Document:
    chat = row.get("chat")
    return Document(
        name=row["name"], text=row["text"], prompt_characters=row.get("prompt_characters", 0),
        chat=None if chat is None else Chat(
            messages=tuple(chat["messages"]), answers=tuple(chat["answers"]), tools=tuple(chat["tools"]),
            arguments=chat["arguments"],
        ),
    )  # fmt: skip
