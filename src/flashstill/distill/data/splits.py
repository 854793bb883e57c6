"""Build the training, held-out and out-of-domain packings from two text sources, and one for validation if asked.

The split is by document, and paragraphs that also occur in the training text are removed from the other sets.
Those take at most two windows' worth of tokens from the middle of each document, to cover many documents.  What
validation sees, which decides when training stops, is no part of the held-out text that the result is judged by.

A large source is never in memory: its documents are sorted on the disk (corpus.py), tokenised in chunks (chunks.py) and
packed in blocks (stored.py); the packings are those of a source that is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashstill.distill.data.chats import Reading
from flashstill.distill.data.chunks import tokenised
from flashstill.distill.data.corpus import INDEX, Corpus
from flashstill.distill.data.holding_out import (
    CHARACTERS_PER_TOKEN,
    WINDOWS_PER_DOCUMENT,
    documents_to_hold_out,
    middles,
    some,
    to_judge_by,
)
from flashstill.distill.data.layouts import Document
from flashstill.distill.data.packing import Packed, TooShort
from flashstill.distill.data.rows import Tally
from flashstill.distill.data.saved import files_of, located_source
from flashstill.distill.data.stored import write_packing
from flashstill.distill.data.stream import stream_of
from flashstill.distill.data.text import no_text, read_documents
from flashstill.distill.data.views import View
from flashstill.distill.data.windows import DOCUMENTS, STREAM, packed, placed
from flashstill.errors import BadInput
from flashstill.files import make_directory, write_text
from flashstill.progress import Progress, Silent

Companion = Callable[[str, Packed, Sequence[Document]], None]
VALIDATION = "validation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Tokens of a window and of each packing. windows: "stream" or "documents" (windows.py); document_masks: whether
    the documents of a window do not see each other; validation_tokens: 0 for no such packing."""

    window_tokens: int
    train_tokens: int
    heldout_tokens: int
    out_of_domain_tokens: int
    windows: str = STREAM
    document_masks: bool = True
    validation_tokens: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the packings."""
        return ("train", "heldout", "out-of-domain", *((VALIDATION,) if self.validation_tokens else ()))

    def count(self, tokens: int) -> int:
        """Windows of so many tokens, at least one."""
        return max(1, tokens // self.window_tokens)


def packed_splits(
    data: str,
    out_of_domain: str,
    reading: Reading,
    sizes: Sizes,
    seed: int,
    folder: Path | None = None,
    progress: Progress | None = None,
    companion: Companion | None = None,
    views: dict[str, list[View]] | None = None,
) -> dict[str, Packed]:
    """The packings "train", "heldout", "out-of-domain" and, if asked, "validation"; smaller if their text runs out.

    data, out_of_domain: text sources (data/text.py).  reading: the tokenizer, how conversations are read, and a
    count of the records.  folder: for what a large source needs on the disk; the packing "train" of such a source stays
    there, in train.npy.  companion: called with each packing and its documents, of which the last two sets are then
    cut as text, to about as many characters, so that another tokenizer can read the same; the text is then in memory.
    Records of each source are counted and judged apart; those of the out-of-domain text are told, not added.
    views: filled with those of each packing by the system prompts of `reading` (data/views.py).
    Raises BadInput if a source is unusable or fills no window.
    """
    own = dataclasses.replace(reading, tally=Tally(most=reading.tally.most))
    other = dataclasses.replace(reading, tally=Tally(most=reading.tally.most))
    try:
        splits = _splits(data, out_of_domain, own, other, sizes, seed, folder, progress or Silent(), companion, views)
    except TooShort as error:
        own.tally.check()
        other.tally.check()
        told = "; ".join([*own.tally.lines(), *other.tally.lines()])
        raise BadInput(f"{error} ({told})" if told else str(error)) from error
    for line in other.tally.lines():
        (progress or Silent()).say(f"out-of-domain text: {line}")
    reading.tally.add(own.tally)
    return splits


def _splits(
    data: str,
    out_of_domain: str,
    reading: Reading,
    other: Reading,
    sizes: Sizes,
    seed: int,
    folder: Path | None,
    shown: Progress,
    companion: Companion | None,
    views: dict[str, list[View]] | None,
) -> dict[str, Packed]:
    """`packed_splits`, with the records of the out-of-domain text counted by `other`."""
    length = sizes.window_tokens
    place = None if folder is None or companion is not None else folder / "tokenising"
    corpus = corpus_of(data, seed, reading, place, shown)
    heldout_count = _held_out(data, corpus, sizes)
    first = heldout_count + (_held_out(data, corpus, sizes, heldout_count) if sizes.validation_tokens else 0)
    seen: dict[str, list[View]] = {name: [] for name in sizes.parts}
    if reading.systems:
        _check_prompted(data, corpus, first)
    source = Corpus(read_documents(out_of_domain, other.tally, other.columns), seed)
    strangers = some(source, sizes.out_of_domain_tokens, length)
    unseen, deciding, unknown = to_judge_by(data, corpus, heldout_count, first, strangers, shown)
    most: int | None = WINDOWS_PER_DOCUMENT * length
    training: list[Document] = []
    if companion is not None:
        cut = round(CHARACTERS_PER_TOKEN * WINDOWS_PER_DOCUMENT * length)
        unseen, deciding, unknown, most = middles(unseen, cut), middles(deciding, cut), middles(unknown, cut), None
    if folder is not None and place is not None and corpus.is_on_disk:
        train = _packed_on_disk(corpus, first, reading, sizes, folder, place, shown)
    else:
        training = list(corpus.documents(first))
        count = sizes.count(sizes.train_tokens)
        train = packed(training, reading, length, count, kind=sizes.windows, views=seen["train"])
    judged = {
        "heldout": (unseen, reading, sizes.heldout_tokens),
        "out-of-domain": (unknown, other, sizes.out_of_domain_tokens),
        VALIDATION: (deciding, reading, sizes.validation_tokens),
    }
    splits = {"train": train} | {
        name: packed(documents, own, length, sizes.count(tokens), most, kind=sizes.windows, views=seen[name])
        for name, (documents, own, tokens) in judged.items()
        if tokens or name != VALIDATION
    }
    reading.tally.check()
    other.tally.check()
    if views is not None:
        views.update(seen)
    if companion is not None:
        for name, split in splits.items():
            companion(name, split, training if name == "train" else judged[name][0])
    if sizes.document_masks:
        return splits
    return {
        name: split if split.known_hash else dataclasses.replace(split, starts=None) for name, split in splits.items()
    }


def _packed_on_disk(
    corpus: Corpus, first: int, reading: Reading, sizes: Sizes, folder: Path, place: Path, shown: Progress
) -> Packed:
    """The training text of a large source, in folder/train.npy; place: for what is tokenised on the way."""
    length = sizes.window_tokens
    pieces = tokenised(corpus, first, reading, length + 1, place, shown, "tokenise")
    columns = stream_of(placed(pieces, reading, length, sizes.windows))
    if not sizes.document_masks:
        columns = (dataclasses.replace(part, starts=np.zeros_like(part.starts)) for part in columns)
    count, whole = sizes.count(sizes.train_tokens), sizes.windows == DOCUMENTS
    return write_packing(folder / "train.npy", columns, length, count, whole=whole)


def corpus_of(data: str, seed: int, reading: Reading, folder: Path | None, progress: Progress) -> Corpus:
    """The documents of a source in their order; a large one is read once and kept in `folder` until it is packed."""
    key = _key(data, seed, reading)
    if folder is not None and (folder / INDEX).exists():
        kept = json.loads((folder / "key.json").read_text(encoding="utf-8"))
        corpus = Corpus.opened(folder) if kept["key"] == key else None
        if corpus is not None:
            reading.tally.add(Tally.restored(kept["tally"]))
            return corpus
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    own = Tally(most=reading.tally.most)
    progress.say(f"reading {data}")
    corpus = Corpus(read_documents(data, own, reading.columns), seed, folder)
    own.check()
    if not len(corpus):
        raise no_text(data)
    if folder is not None and corpus.is_on_disk:
        make_directory(folder)
        write_text(folder / "key.json", json.dumps({"key": key, "tally": own.as_dict()}))
        corpus.save(folder / INDEX)
    reading.tally.add(own)
    return corpus


def _key(data: str, seed: int, reading: Reading) -> str:
    """Digest of what the documents and their tokens depend on: files by their sizes and times."""
    located = located_source(data)
    files = [] if located is None else files_of(*located)
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    rules = reading.tokenizer.backend_tokenizer.to_str()
    what = [data, seed, stats, rules, dataclasses.asdict(reading.columns), reading.learn, reading.long]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _check_prompted(data: str, corpus: Corpus, first: int) -> None:
    """BadInput unless the training documents are in memory and hold conversations, for a teacher's system prompt."""
    if corpus.is_on_disk:
        raise BadInput(f"a teacher's system prompt needs data that fit into memory; give a part of {data!r}")
    if all(document.chat is None for document in corpus.documents(first)):
        raise BadInput(
            f"a teacher's system prompt is for conversations, and data {data!r} holds none; see records.as_chat"
        )


def _held_out(data: str, corpus: Corpus, sizes: Sizes, first: int = 0) -> int:
    """Number of documents to hold out for evaluation; first: those that are, for the documents of the validation."""
    if len(corpus) < 2:
        raise BadInput(f"data {data!r} is one document; at least two are needed, to hold one out")
    if len(corpus) - first < 2:
        raise BadInput(
            f"data {data!r} has {len(corpus)} documents, of which {first} are held out for evaluation: too few to hold"
            " out one more for validation; leave text.validation_tokens out"
        )
    tokens = sizes.validation_tokens if first else sizes.heldout_tokens
    return documents_to_hold_out(corpus.lengths[first:].tolist(), tokens, WINDOWS_PER_DOCUMENT * sizes.window_tokens)


def divided(data: str, heldout_tokens: int, window_tokens: int, seed: int) -> tuple[list[Document], list[Document]]:
    """Split the source `data` into (held-out documents, training documents); BadInput if it has only one document."""
    tally = Tally()
    corpus = Corpus(read_documents(data, tally), seed)
    tally.check()
    sizes = Sizes(window_tokens=window_tokens, train_tokens=0, heldout_tokens=heldout_tokens, out_of_domain_tokens=0)
    count = _held_out(data, corpus, sizes)
    return list(corpus.documents(0, count)), list(corpus.documents(count))
