"""UTF-8 bytes that each token of a vocabulary stands for, where its tokens spell the text.

    byte-level      a character of a token is a byte (GPT-2's alphabet)
    SentencePiece   a token is text in which U+2581 is a space, or one byte, <0x0A>

Whether the tokens of a text add up to its bytes is for the caller to check: normalisation and spaces that a tokenizer
adds or drops make them differ.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

SPACE, ONE_BYTE = "\u2581", re.compile(r"<0x[0-9A-Fa-f]{2}>")


def token_bytes(rules: Any) -> npt.NDArray[np.int32]:
    """[ids]: bytes of each token of a `tokenizers.Tokenizer`; 0 for ids without one."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary: dict[str, int] = rules.get_vocab(with_added_tokens=True)
    added = {token.content for token in rules.get_added_tokens_decoder().values()}
    alphabet = set(ByteLevel.alphabet())
    is_byte_level = all(alphabet.issuperset(token) for token in vocabulary if token not in added)
    sizes = np.zeros(max(vocabulary.values(), default=-1) + 1, dtype=np.int32)
    for token, place in vocabulary.items():
        if is_byte_level and token not in added:
            sizes[place] = len(token)
        elif ONE_BYTE.fullmatch(token):
            sizes[place] = 1
        else:
            sizes[place] = len(token.replace(SPACE, " ").encode())
    return sizes
