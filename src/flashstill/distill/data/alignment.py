"""Align two tokenisations of the same text: spans are the stretches between places where both tokenizers cut.

    text       | the| quick| brown|
    student    | the| qu|ick| brown|        spans  | the| quick| brown|
    teacher    | the| quick| br|own|

Every byte of a document is in one span, and every token in one.  Where the tokens of a document spell its bytes, cuts
are exact to the byte, also inside a character.  Otherwise (a tokenizer that normalises, drops or adds characters) they
are taken from its character offsets; where those do not say, spans are merged until both sides agree, at the latest at
the end of the document.  The end-of-text tokens of both are a span of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.distill.data.token_bytes import spelt

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """Where the tokens of a document end.

    ends [n]: bytes of the document up to the end of each token, not decreasing; is_exact: whether the tokens spell the
    document, so that a token that ends inside a character says so.
    """

    ends: Numbers
    is_exact: bool


def token_ends(table: Sequence[bytes | None], ids: Sequence[int], widths: Sequence[int], text: bytes) -> Ends:
    """Where tokens end in a text, of which they may be only the beginning.

    table: bytes of each id (token_bytes.py); widths: bytes that each token adds by the tokenizer's character offsets.
    """
    pieces = spelt(table, ids)
    if pieces is not None:
        sizes = np.asarray([len(piece) for piece in pieces], dtype=np.int64)
        whole = b"".join(pieces)
        if text.startswith(whole):
            return Ends(ends=np.cumsum(sizes), is_exact=True)
        if whole[:1] == b" " and text.startswith(whole[1:]):  # a space that the tokenizer puts before a text
            return Ends(ends=np.maximum(np.cumsum(sizes) - 1, 0), is_exact=True)
    return Ends(ends=np.cumsum(np.asarray(widths, dtype=np.int64)), is_exact=False)


def cuts(student: Numbers, teacher: Numbers, is_whole: bool, is_exact: bool = False) -> tuple[Numbers, Numbers]:
    """The last token of every span, on both sides: two arrays of equal length, ascending.

    student [n], teacher [m]: ends of the tokens in the same text; is_whole: whether both have the text to its end, so
    that the last span ends with the last tokens; is_exact: whether no token adds nothing, so that a span may end with
    the last token of a part.  Tokens behind the last cut are in no span.
    """
    if not len(student) or not len(teacher):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    (ours, own_last), (theirs, other_last) = _last_of(student), _last_of(teacher)
    _, own, other = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    own, other = own_last[own], other_last[other]
    # tokens that add nothing at the beginning (a lone space before the text) belong to the first span
    is_text = (student[own] > 0) & (teacher[other] > 0)
    own, other = own[is_text], other[is_text]
    if not is_whole:
        # the tokens that follow the last one may end at the same byte
        is_before = own < len(student) - (0 if is_exact else 1)
        return own[is_before], other[is_before]
    if not len(own) or (own[-1], other[-1]) != (len(student) - 1, len(teacher) - 1):
        kept = (own < len(student) - 1) & (other < len(teacher) - 1)
        own = np.append(own[kept], len(student) - 1)
        other = np.append(other[kept], len(teacher) - 1)
    return own, other


def _last_of(ends: Numbers) -> tuple[Numbers, Numbers]:
    """The distinct ends, ascending, and the last token that has each."""
    is_last = np.append(ends[1:] != ends[:-1], True)
    places = np.flatnonzero(is_last)
    return ends[places], places
