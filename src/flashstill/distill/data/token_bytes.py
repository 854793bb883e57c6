"""The bytes that each token of a fast tokenizer stands for, and the ids that two vocabularies have in common.

    byte-level BPE          "Ġthe"   " the"      every byte has a character of its own (Radford et al. 2019)
    SentencePiece           "▁the"   " the"      a metaspace; "<0xE2>" is one byte where the model falls back to bytes
    others (WordPiece, ...) "##the"  "##the"     the characters of the token themselves

Whether tokens spell a text is always checked on that text (alignment.py); a vocabulary is only compared by these bytes.
"""

from __future__ import annotations

import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
METASPACE = "▁"


@dataclass(frozen=True, kw_only=True, slots=True)
class CommonIds:
    """Ids of two vocabularies that stand for the same bytes, or the same control token: student[i] = teacher[i].

    Every id occurs once at most.  both [M].
    """

    student: npt.NDArray[np.int64]
    teacher: npt.NDArray[np.int64]


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """The bytes of every id; None for control tokens, such as the end-of-text token, and for unused ids."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    kinds = set(_types(rules.get("decoder"))) | set(_types(rules.get("pre_tokenizer")))
    falls_back = "ByteFallback" in kinds or bool((rules.get("model") or {}).get("byte_fallback"))
    control = {entry["id"] for entry in rules.get("added_tokens") or () if entry.get("special")}
    added = {entry["id"] for entry in rules.get("added_tokens") or ()}
    control |= set(tokenizer.all_special_ids)
    vocabulary = tokenizer.get_vocab()
    table: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for token, number in vocabulary.items():
        if number in control:
            continue
        if number in added:
            table[number] = token.encode(errors="replace")
        elif "ByteLevel" in kinds:
            table[number] = _of_characters(token)
        else:
            table[number] = _of_pieces(token, falls_back)
    return table


def common_ids(student: Any, teacher: Any) -> CommonIds:
    """The ids that two tokenizers have in common: by the bytes of their tokens, then control tokens by their text and
    the end-of-text tokens with each other."""
    pairs: dict[int, int] = {}
    ours, theirs = _by_bytes(student), _by_bytes(teacher)
    for spelt, own in ours.items():
        other = theirs.get(spelt, {})
        for text, number in own.items():
            if text in other:
                pairs[number] = other[text]
        left = [number for number in own.values() if number not in pairs]
        free = [number for number in other.values() if number not in set(pairs.values()) - {None}] if left else []
        pairs.update(zip(left, free, strict=False))
    taken = set(pairs.values())
    for number, other_number in _controls(student, teacher):
        if number not in pairs and other_number not in taken:
            pairs[number] = other_number
            taken.add(other_number)
    ids = np.asarray(sorted((other, own) for own, other in pairs.items()), dtype=np.int64).reshape(-1, 2)
    return CommonIds(student=ids[:, 1], teacher=ids[:, 0])


def _by_bytes(tokenizer: Any) -> dict[bytes, dict[str, int]]:
    """bytes -> token text -> id; several tokens can stand for the same bytes ("A" and "<0x41>")."""
    table = token_bytes(tokenizer)
    found: dict[bytes, dict[str, int]] = defaultdict(dict)
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]):
        spelt = table[number]
        if spelt is not None:
            found[spelt][token] = number
    return found


def _controls(student: Any, teacher: Any) -> Iterator[tuple[int, int]]:
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    ends = (student.eos_token_id, teacher.eos_token_id)
    own_table, other_table = token_bytes(student), token_bytes(teacher)
    if None not in ends:
        yield ends
    for token, number in ours.items():
        if own_table[number] is None and token in theirs and other_table[theirs[token]] is None:
            yield number, theirs[token]


def spelt(table: Sequence[bytes | None], ids: Sequence[int]) -> list[bytes] | None:
    """The bytes of each of some ids; None if one of them is a control token."""
    pieces = [table[number] for number in ids]
    return None if None in pieces else [piece for piece in pieces if piece is not None]


def _of_characters(token: str) -> bytes:
    values = _byte_characters()
    try:
        return bytes(values[character] for character in token)
    except KeyError:  # a token that was added as plain text
        return token.encode(errors="replace")


def _of_pieces(token: str, falls_back: bool) -> bytes:
    byte = _BYTE.fullmatch(token) if falls_back else None
    return bytes([int(byte[1], 16)]) if byte else token.replace(METASPACE, " ").encode(errors="replace")


@functools.cache
def _byte_characters() -> dict[str, int]:
    """Character -> byte of byte-level BPE: printable Latin-1 characters stand for themselves, other bytes for the
    characters from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _types(rules: Any) -> Iterator[str]:
    """All values of "type" in the rules of a tokenizer, at any depth."""
    if isinstance(rules, dict):
        if isinstance(rules.get("type"), str):
            yield rules["type"]
        for inner in rules.values():
            yield from _types(inner)
    elif isinstance(rules, list):
        for inner in rules:
            yield from _types(inner)
