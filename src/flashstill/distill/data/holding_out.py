"""Which documents of a source are held out, and how much of each is used: many documents, of none of them much."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from flashstill.distill.data.corpus import Corpus
from flashstill.distill.data.layouts import Document
from flashstill.distill.data.text import common_paragraphs, without_paragraphs
from flashstill.progress import Progress

CHARACTERS_PER_TOKEN = 4.0
WINDOWS_PER_DOCUMENT = 2
SPARE = 6.0
"""out-of-domain documents that are considered, as a multiple of those that suffice if no paragraph leaks"""


def some(corpus: Corpus, tokens: int, window_tokens: int) -> list[Document]:
    """The first documents of an out-of-domain source: several times as many as are needed if none leaks."""
    wanted = SPARE * CHARACTERS_PER_TOKEN * tokens
    limit = CHARACTERS_PER_TOKEN * WINDOWS_PER_DOCUMENT * window_tokens
    documents, useful = [], 0.0
    for document in corpus.documents():
        documents.append(document)
        useful += min(len(document.text), limit)
        if useful >= wanted:
            break
    return documents


def to_judge_by(
    data: str, corpus: Corpus, heldout_count: int, first: int, strangers: list[Document], shown: Progress
) -> tuple[list[Document], list[Document], list[Document]]:
    """The documents that are held out, those of the validation, and the strangers, which are out of domain.

    heldout_count: the first so many documents of the corpus are held out, those up to number `first` are of the
    validation (none if the two are equal), and the training text begins there.  All are without the paragraphs of the
    training text; those of the validation without those of the two others, and the strangers without the held-out.
    data: name of the source, for what is said of duplicates and shared paragraphs.
    """
    heldout, deciding = list(corpus.documents(0, heldout_count)), list(corpus.documents(heldout_count, first))
    shared = common_paragraphs([*heldout, *deciding, *strangers], corpus.documents(first))
    if corpus.duplicates:
        shown.say(f"{data}: {corpus.duplicates:,} documents are left out, as each has the same text as another")
    if shared:
        shown.say(
            f"{len(shared):,} paragraphs or answers of the texts to judge by are in the training text as well, and are"
            " left out of them"
        )
    unseen = without_paragraphs(heldout, shared)
    deciding = without_paragraphs(deciding, shared | common_paragraphs(deciding, [*heldout, *strangers]))
    unknown = without_paragraphs(strangers, shared | common_paragraphs(strangers, heldout))
    return unseen, deciding, unknown


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
