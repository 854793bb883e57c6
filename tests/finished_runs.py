"""Finished runs by hand, as far as their pages need them, and ways to damage their files."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flashstill.records import CostRecord, MeasuredRecord, ModelRecord, QualityRecord, Record, write_records
from flashstill.report.whole import LEVELS, QUALITY
from tests.tiny import family_text

EVIDENCE = Path(__file__).parents[1] / "docs" / "evidence"
MARKUP = '<a href="https://example.org">x</a></script><b>'


def family_records(student: str = "half", chip: str = "h100-sxm") -> list[Record]:
    """The smallest family: a teacher, a student, its control and its start, on one chip and on this machine."""
    roles = {
        "teacher": "teacher",
        student: "student",
        f"{student}-control": "control",
        f"{student}-untrained": "untrained",
    }
    found: list[Record] = [
        ModelRecord(
            model=name, role=role, of="teacher" if role == "teacher" else student, parameters=1000, layers=3,
            training_tokens=10, training_s=1.0, path="",
        )
        for name, role in roles.items()
    ]  # fmt: skip
    for name in roles:
        found += [
            QualityRecord(
                model=name, domain=domain, metric=metric, value=0.5, low=0.4, high=0.6, tokens=100, documents=9
            )
            for domain, metric in QUALITY
        ]
    for name in ("teacher", student):
        found.append(
            MeasuredRecord(
                model=name, machine="this-machine", phase="decode", batch=1, context=16, seconds=0.1, low=0.1, high=0.2,
                repeats=2, precision="bf16",
            )
        )  # fmt: skip
        found += [
            CostRecord(
                model=name, chip=where, chips=1, phase="decode", batch=batch, context=128, precision="bf16",
                seconds=0.01, tokens_per_s=100.0, joules_per_token=dict.fromkeys(LEVELS, 0.5),
                wall_joules_per_token=1.0, usd_per_million_tokens=1.0, watts_per_chip=100.0, bound="memory",
            )
            for where in (chip, "this-machine")
            for batch in (1, 16)
        ]  # fmt: skip
    return found


def write_family(out: Path) -> Path:
    """What a finished family leaves, as far as its page needs it."""
    out.mkdir()
    (out / "family.toml").write_text(family_text("somewhere", "text.txt"))
    write_records(out / "records.jsonl", family_records())
    fingerprints = {"teacher_fingerprint": "ab" * 32, "tokenizer_fingerprint": "cd" * 32}
    made = {"command": "flashstill run", "corpus": "text.txt", "machine": "x86_64", "begun": "today"}
    (out / "provenance.json").write_text(json.dumps({**fingerprints, **made, "versions": {"python": "3.11"}}))
    return out


def study(place: Path, name: str) -> Path:
    """A finished study, from the evidence of the documents."""
    place.mkdir()
    shutil.copy(EVIDENCE / f"{name}.json", place / "summary.json")
    (place / "study.toml").write_text('name = "mine"\nstudy = "deep-think"\n')
    return place


Damage = Callable[[random.Random, bytes], bytes | None]


def cut(chance: random.Random, content: bytes) -> bytes:
    return content[: chance.randrange(len(content))]


def flip(chance: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 3, 30))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def drop_line(chance: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    return b"".join(lines)


def other_json(chance: random.Random, content: bytes) -> bytes:
    others: list[Any] = [{}, [], None, 3, {"name": "x", "version": 1}, {"schema": 1, "record": "cost"}, {"figures": {}}]
    return json.dumps(chance.choice(others)).encode()


def retyped(chance: random.Random, content: bytes) -> bytes:
    """Another value somewhere in a line of JSON."""
    lines = content.decode().splitlines() if content.count(b'"schema"') else [content.decode()]
    place = chance.randrange(len(lines))
    try:
        row = json.loads(lines[place])
    except ValueError:
        return content.replace(b'"', b"", 1)
    inside = row
    while True:
        key = chance.choice(list(inside) if isinstance(inside, dict) else list(range(len(inside))))
        if not isinstance(inside[key], (dict, list)) or not inside[key] or chance.random() < 0.2:
            break
        inside = inside[key]
    if chance.random() < 0.2 and isinstance(inside, dict):
        del inside[key]
    else:
        bad: list[Any] = [
            None,
            -1,
            0,
            1e308,
            float("nan"),
            float("inf"),
            2**80,
            "x",
            "",
            [],
            {},
            True,
            "\ud800",
            MARKUP,
        ]
        inside[key] = chance.choice(bad)
    lines[place] = json.dumps(row)
    return "\n".join(lines).encode()


DAMAGES: list[Damage] = [
    cut, flip, drop_line, other_json, retyped, retyped, retyped, lambda chance, content: None,
    lambda chance, content: b"", lambda chance, content: b"\x00\xff" * 99, lambda chance, content: b"[" * 9999,
]  # fmt: skip
