"""Build the training, held-out and out-of-domain packings from two text sources.

The split is by document, and paragraphs that also occur in the training text are removed from the other two sets.
Those two take at most two windows' worth of tokens from the middle of each document, to cover many documents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from flashstill.distill.data.chats import Reading
from flashstill.distill.data.packing import Packed
from flashstill.distill.data.text import load_documents, shuffled, without_leaks
from flashstill.distill.data.text_files import Document
from flashstill.distill.data.windows import packed
from flashstill.errors import BadInput

CHARACTERS_PER_TOKEN = 4.0
WINDOWS_PER_DOCUMENT = 2
Companion = Callable[[str, Packed, Sequence[Document]], None]


def packed_splits(
    data: str,
    out_of_domain: str,
    reading: Reading,
    window_tokens: int,
    train_tokens: int,
    heldout_tokens: int,
    out_of_domain_tokens: int,
    seed: int,
    companion: Companion | None = None,
) -> dict[str, Packed]:
    """The packings "train", "heldout" and "out-of-domain", each smaller than requested if its text runs out.

    data, out_of_domain: text sources (data/text.py).  reading: the tokenizer, how conversations are read, and a
    count of the records.  companion: called with each packing and its documents, of which the last two sets are then
    cut as text, to about as many characters, so that another tokenizer can read the same.  Raises BadInput if a
    source is unusable or fills no window.
    """
    heldout, training = divided(data, heldout_tokens, window_tokens, seed, reading)
    unseen = without_leaks(heldout, training)
    strangers = without_leaks(
        shuffled(load_documents(out_of_domain, reading.tally, reading.columns), seed), [*heldout, *training]
    )
    most = WINDOWS_PER_DOCUMENT * window_tokens

    def windows(tokens: int) -> int:
        return max(1, tokens // window_tokens)

    most_tokens: int | None = most
    if companion is not None:
        unseen, strangers = (middles(each, round(CHARACTERS_PER_TOKEN * most)) for each in (unseen, strangers))
        most_tokens = None
    splits = {
        "train": packed(training, reading, window_tokens, windows(train_tokens)),
        "heldout": packed(unseen, reading, window_tokens, windows(heldout_tokens), most_tokens),
        "out-of-domain": packed(strangers, reading, window_tokens, windows(out_of_domain_tokens), most_tokens),
    }
    reading.tally.check()
    for name, documents in {"train": training, "heldout": unseen, "out-of-domain": strangers}.items():
        if companion is not None:
            companion(name, splits[name], documents)
    return splits


def middles(documents: Sequence[Document], characters: int) -> list[Document]:
    """The middle of each text, of at most so many characters; conversations as they are."""
    return [
        document
        if document.is_whole or len(document.text) <= characters
        else dataclasses.replace(document, text=_middle(document.text, characters))
        for document in documents
    ]


def _middle(text: str, characters: int) -> str:
    start = (len(text) - characters) // 2
    return text[start : start + characters]


def divided(
    data: str, heldout_tokens: int, window_tokens: int, seed: int, reading: Reading | None = None
) -> tuple[list[Document], list[Document]]:
    """Split the source `data` into (held-out documents, training documents); BadInput if it has only one document."""
    tally, columns = (reading.tally, reading.columns) if reading else (None, None)
    documents = shuffled(load_documents(data, tally, columns), seed)
    if len(documents) < 2:
        raise BadInput(f"data {data!r} is one document; at least two are needed, to hold one out")
    sizes = [len(document.text) for document in documents]
    heldout_count = documents_to_hold_out(sizes, heldout_tokens, WINDOWS_PER_DOCUMENT * window_tokens)
    return documents[:heldout_count], documents[heldout_count:]


def documents_to_hold_out(characters: list[int], tokens: int, most_tokens: int) -> int:
    """Number of leading documents to hold out to get `tokens` tokens: at most 30 % of the text, never all documents.

    characters: length of each document; most_tokens: tokens used per document.  Assumes 4 characters per token, and
    holds out 1.5 times as much as needed, because paragraphs that leak from the training text are removed later.
    """
    target, limit = 1.5 * CHARACTERS_PER_TOKEN * tokens, 0.3 * sum(characters)
    count, useful, whole = 0, 0.0, 0.0
    while count < len(characters) - 1 and useful < target and (count == 0 or whole + characters[count] <= limit):
        useful += min(characters[count], CHARACTERS_PER_TOKEN * most_tokens)
        whole += characters[count]
        count += 1
    return count
