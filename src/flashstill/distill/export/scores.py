"""Scores that merge tokens in the order of a list of merges.

llama.cpp joins the two neighbours whose union has the best score.  A list of merges joins the pair that comes first in
it.  Both are the same where all pairs that make one token stand together in the list, and where each split of a token
into two tokens is a merge: as in every list that was made from a SentencePiece model.  The score of a token is then
minus the number of its first merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flashstill.errors import BadInput

_REASON = "it was not made from a SentencePiece model, and llama.cpp would split words otherwise; it cannot be exported"


def scores_of(model: Mapping[str, Any], tokens: Iterable[str]) -> dict[str, float]:
    """Score by token of a BPE model (its JSON in tokenizer.json); BadInput if no scores merge in its order."""
    vocabulary: Mapping[str, int] = model["vocab"]
    first: dict[str, int] = {}
    pairs: set[tuple[str, str]] = set()
    before = ""
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        made = left + right
        if made in first and made != before:
            raise BadInput(f"the merges of the tokenizer that make {made!r} do not stand together; {_REASON}")
        first.setdefault(made, rank)
        pairs.add((left, right))
        before = made
    for token in first:
        for place in range(1, len(token)):
            left, right = token[:place], token[place:]
            if (
                left in vocabulary
                and right in vocabulary
                and (left, right) not in pairs
                and _reached(left, right, first)
            ):
                raise BadInput(f"the tokenizer has {token!r}, but no merge of {left!r} and {right!r}; {_REASON}")
    return {token: float(-first[token]) if token in first else 0.0 for token in tokens}


def _reached(left: str, right: str, first: Mapping[str, int]) -> bool:
    """Whether merging can arrive at both parts: single characters, or what a merge makes."""
    return all(len(part) == 1 or part in first for part in (left, right))
