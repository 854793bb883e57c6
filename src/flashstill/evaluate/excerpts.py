"""The text that models are evaluated on: the same excerpts for every model, whatever its tokenizer.

    excerpt of a document    its middle, at most c characters, cut at white space
    c                        the smallest with which all documents together fill the sample; at least two windows

A sample thus covers as many documents as possible, and a model's figures do not depend on the other models of the
evaluation.  The sample size assumes 4 characters per token; each tokenizer packs all of the excerpts.
A conversation is an excerpt as a whole, and only its answers are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flashstill.distill.data.chats import Reading
from flashstill.distill.data.holding_out import CHARACTERS_PER_TOKEN, WINDOWS_PER_DOCUMENT
from flashstill.distill.data.packing import Packed
from flashstill.distill.data.text import shuffled
from flashstill.distill.data.text_files import Document
from flashstill.distill.data.windows import packed
from flashstill.errors import BadInput

LONGEST_WORD = 100
"""most characters cut from either end of an excerpt, so that it starts and ends with whole words"""
NO_LIMIT = 2**40
LEAST_COVERED = 0.99


def choose_excerpts(documents: Sequence[Document], tokens: int, window_tokens: int, seed: int) -> list[Document]:
    """About 4 x `tokens` characters from the middles of the documents, in an order that depends on the seed.

    Raises BadInput for a single document, since bootstrap intervals are over documents.
    """
    if len(documents) < 2:
        raise BadInput("the text is one document, and intervals are over documents; give at least two")
    target = CHARACTERS_PER_TOKEN * tokens
    least = round(CHARACTERS_PER_TOKEN * WINDOWS_PER_DOCUMENT * window_tokens)
    most = max(least, smallest_limit([len(document.text) for document in documents], target))
    chosen: list[Document] = []
    characters = 0
    for document in shuffled(documents, seed):
        part = Document(name=document.name, text=middle_of(document.text, most))
        chosen.append(document if document.is_whole else part)
        characters += len(chosen[-1].text)
        if characters >= target and len(chosen) > 1:
            break
    return chosen


def smallest_limit(lengths: Sequence[int], target: float) -> int:
    """The smallest c with sum of min(length, c) >= target; the largest length if the total is below the target."""
    missing = target
    ordered = sorted(lengths)
    for place, length in enumerate(ordered):
        others = len(ordered) - place
        if length * others >= missing:
            return -int(-missing // others)
        missing -= length
    return ordered[-1]


def middle_of(text: str, most: int) -> str:
    """The middle of a text, at most `most` characters, cut at nearby white space if there is any."""
    if len(text) <= most:
        return text
    start = (len(text) - most) // 2
    piece, slack = text[start : start + most], min(LONGEST_WORD, most // 4)
    first = next((place for place in range(slack) if piece[place].isspace()), 0)
    last = next(
        (place for place in range(len(piece), len(piece) - slack, -1) if piece[place - 1].isspace()), len(piece)
    )
    return piece[first:last]


def pack_excerpts(excerpts: Sequence[Document], reading: Reading, window_tokens: int) -> Packed:
    """Pack all excerpts with one model's tokenizer, conversations with its chat template.

    Raises BadInput if the tokenizer omits parts of the text (bits per byte would count bytes that the model never
    predicted), or if too many conversations cannot be used.
    """
    packing = packed(excerpts, reading, window_tokens, NO_LIMIT, whole=True)
    reading.tally.check()
    if any(excerpt.is_whole for excerpt in excerpts):  # long conversations are cut, and templates may trim them
        return packing
    covered, size = int(packing.target_bytes.sum()), sum(len(excerpt.text.encode()) for excerpt in excerpts)
    if covered < LEAST_COVERED * size:
        raise BadInput(
            f"the tokenizer of {reading.named} leaves out {1 - covered / size:.0%} of the text's bytes; its bits per"
            " byte would not compare with those of others"
        )
    return packing


def unknown_tokens(packed: Packed, tokenizer: Any) -> int:
    """Number of targets that are the tokenizer's unknown token, where the model predicts no text."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown == tokenizer.eos_token_id:
        return 0
    return int(np.count_nonzero((packed.tokens[:, 1:] == unknown) & (packed.target_document >= 0)))


def most_frequent_share(packed: Packed) -> float:
    """Share of the most frequent token among the targets, what a model that always answers it scores; 0 to 1."""
    targets = packed.tokens[:, 1:][packed.target_document >= 0]
    return float(np.bincount(targets).max() / targets.size) if targets.size else 0.0
