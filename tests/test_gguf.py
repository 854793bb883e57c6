"""Headers of GGUF files that promise what is not there: one sentence, at once, in little memory."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from flashstill.distill.models import convert_gguf
from flashstill.distill.models.gguf_header import check_gguf
from flashstill.errors import BadInput

F32, UINT32, STRING, ARRAY = 0, 4, 8, 9


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def entry(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(name: str, shape: Sequence[int], kind: int = F32, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def header(
    *, tensors: Sequence[bytes] = (), entries: Sequence[bytes] = (), version: int = 3,
    counts: tuple[int, int] | None = None, data: int = 64,
) -> bytes:  # fmt: skip
    counted = counts or (len(tensors), len(entries))
    begin = b"GGUF" + struct.pack("<IQQ", version, *counted) + b"".join(entries) + b"".join(tensors)
    return begin + b"\0" * (-len(begin) % 32 + data)


GOOD = header(
    tensors=[tensor("token_embd.weight", (4, 4))],
    entries=[
        entry("llama.block_count", UINT32, struct.pack("<I", 1)),
        entry("names", ARRAY, struct.pack("<IQ", STRING, 2) + text("a") + text("b")),
        entry("scores", ARRAY, struct.pack("<IQ", UINT32, 2) + b"\0" * 8),
    ],
)
BAD = {
    "it does not begin as one": b"GGML" + GOOD[4:],
    "version 9 is not known": header(version=9),
    "it promises 1152921504606846976 tensors": header(counts=(2**60, 0)),
    "and 1152921504606846976 entries": header(counts=(0, 2**60)),
    "it ends before its header does": header(entries=[entry("x", STRING, struct.pack("<Q", 2**50))]),
    "a name in it has 1125899906842624 bytes": header(counts=(0, 1))[:24] + struct.pack("<Q", 2**50) + b"\0" * 99,
    "an entry has 1099511627776 items of type 8": header(
        entries=[entry("x", ARRAY, struct.pack("<IQ", STRING, 2**40))]
    ),
    "an entry has 1 items of type 9": header(entries=[entry("x", ARRAY, struct.pack("<IQ", ARRAY, 1))]),
    "an entry has the unknown type 77": header(entries=[entry("x", 77, b"")]),
    "has 9 dimensions": header(tensors=[tensor("x", (1,) * 9)]),
    "its tensors take": header(tensors=[tensor("x", (2**20, 2**20))]),
    "has 0 values": header(tensors=[tensor("x", (2**40, 0))]),
    "999 is not a valid": header(tensors=[tensor("x", (1,), kind=999)]),
    "aligned to 0": header(entries=[entry("general.alignment", UINT32, struct.pack("<I", 0))]),
    "block_count is 1000000000, more than": header(
        tensors=[tensor("x", (4,))], entries=[entry("llama.block_count", UINT32, struct.pack("<I", 10**9))]
    ),
    "expert_count is 1000000000, more than": header(
        tensors=[tensor("x", (4,))], entries=[entry("llama.expert_count", UINT32, struct.pack("<I", 10**9))]
    ),
}


def test_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(GOOD)
    assert check_gguf(tmp_path / "x.gguf") == {"llama.block_count": 1, "names": None, "scores": None}


def test_what_it_says(tmp_path: Path) -> None:
    """Numbers and short texts; long ones are passed over."""
    name, long = (
        entry(key, STRING, text(value)) for key, value in (("tokenizer.ggml.pre", "smollm"), ("a", "x" * 2000))
    )
    entries = [name, long, entry("b", UINT32, struct.pack("<I", 7))]
    (tmp_path / "x.gguf").write_bytes(header(entries=entries, tensors=[tensor("x", (7,))]))
    assert check_gguf(tmp_path / "x.gguf") == {"tokenizer.ggml.pre": "smollm", "a": None, "b": 7}


@pytest.mark.parametrize("said", BAD)
def test_promises(tmp_path: Path, said: str) -> None:
    (tmp_path / "x.gguf").write_bytes(BAD[said])
    with pytest.raises(BadInput, match="cannot be read as a GGUF model") as caught:
        convert_gguf(tmp_path / "x.gguf", tmp_path / "target")
    assert said in str(caught.value)
    assert not (tmp_path / "target").exists()


def test_cut_anywhere(tmp_path: Path) -> None:
    for kept in range(0, len(GOOD) - 1, 3):
        (tmp_path / "x.gguf").write_bytes(GOOD[:kept])
        with pytest.raises(BadInput, match="cannot be read as a GGUF model"):
            check_gguf(tmp_path / "x.gguf")


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.gguf")
    with pytest.raises(BadInput, match="not a regular file"):
        check_gguf(tmp_path / "x.gguf")
