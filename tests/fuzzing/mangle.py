"""Small damages: strange values for a place that expects something else, and bytes that are not what they were."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

DIGITS = "9" * 400
TEXTS = (
    "", " ", "x", "0", "-1", "1.5", "1e308", "1e400", "-1e-300", "nan", "NaN", "inf", "-inf", "Infinity", "0x10",
    "1_000", "½", "²", "٣", "1,5", "1e", "--", "-", "=1+1", "@cmd", "~nobody", "/dev/zero", "/dev/null", "../../x",
    "a/b", ".", "..", "\x00", "\x1b[31m", "\u202e", "\ufeff", "<script>alert(1)</script>", "</script>", "%s%s", "{0}",
    "${HOME}", "'", '"', "x" * 300, "x" * 5000, "é" * 200, DIGITS, "10ms", "4k", "4kk", "5 TB/s", "1e9",
    "99999999999999999999", "true", "None", "h100-sxm", "llama-3.1-8b", "fp8", "heads", "memory", "\n", "a\nb", "\t",
    ",", ";", "[]", "{}",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 1.5, -0.5, 1e-300, 1e308, float("nan"), float("inf"), float("-inf"), 10**9,
    10**12, 2**63, 2**70, 10**30, -(10**12), [], {}, [[]], [0], [-1], [None], ["x"], {"a": 1}, {"": None}, *TEXTS,
)  # fmt: skip


def text(chance: random.Random) -> str:
    """A strange text for an option or a cell."""
    return chance.choice(TEXTS)


def value(chance: random.Random) -> Any:
    """A strange JSON value; now and then a deep or a long one."""
    roll = chance.random()
    if roll < 0.02:
        return deep(chance.choice((50, 900, 5000)))
    if roll < 0.04:
        return [chance.choice((0, 1, "x"))] * chance.choice((1000, 100_000))
    return copy.deepcopy(chance.choice(VALUES))


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


def document(chance: random.Random, good: dict[str, Any], most: int = 3) -> dict[str, Any]:
    """A copy of a JSON object with one to `most` places changed, dropped, doubled or added."""
    found = copy.deepcopy(good)
    for _ in range(chance.randint(1, most)):
        _change(chance, found)
    return found


def _change(chance: random.Random, place: Any) -> None:
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = chance.choice(keys)
        inner = place[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.7:
            place = inner
            continue
        break
    roll = chance.random()
    if roll < 0.12:
        del place[key]
    elif roll < 0.2 and isinstance(place, dict):
        place[chance.choice((f"{key}_dim", f"num_{key}", f"{key}2", "", "x" * 300, text(chance)))] = value(chance)
    elif roll < 0.3 and isinstance(inner, int | float) and not isinstance(inner, bool):
        place[key] = chance.choice((inner * 2, inner + 1, -inner, inner * 1000, inner / 3, inner * 10**9))
    else:
        place[key] = value(chance)


def as_json(chance: random.Random, found: dict[str, Any]) -> bytes:
    """JSON bytes of a document, sometimes with a key twice, a byte order mark or in another encoding."""
    try:
        made = json.dumps(found)
    except RecursionError:
        made = "[" * 100_000
    roll = chance.random()
    if roll < 0.03 and found:
        key = chance.choice(list(found))
        made = made[:-1] + f", {json.dumps(key)}: {json.dumps(chance.choice(VALUES))}}}"
    if roll > 0.98:
        return made.encode("utf-16")
    if roll > 0.96:
        return b"\xef\xbb\xbf" + made.encode()
    return made.encode("utf-8", "surrogatepass")


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """The bytes cut off, emptied, flipped in places, doubled, or another thing altogether."""
    roll = chance.randrange(8)
    if roll == 0 or not whole:
        return b""
    if roll == 1:
        return whole[: chance.randrange(len(whole))]
    if roll in (2, 3):
        flipped = bytearray(whole)
        for _ in range(chance.choice((1, 3, 30))):
            # Most places lie where formats keep their headers.
            place = chance.randrange(min(len(flipped), 512) if chance.random() < 0.6 else len(flipped))
            flipped[place] = chance.randrange(256)
        return bytes(flipped)
    if roll == 4:
        return whole + whole
    if roll == 5:
        return chance.randbytes(chance.choice((1, 8, 4096)))
    if roll == 6:
        lines = whole.split(b"\n")
        del lines[chance.randrange(len(lines))]
        return b"\n".join(lines)
    return chance.choice(
        (b"null", b"[]", b"{}", b'{"a": 1}', b"[" * 100_000, b"\x00" * 64, b"\xff\xfe", b"nan\n", b"-1\n")
    )
