"""Test a tokenizer.json in a sandboxed process before loading it.

A tokenizer.json can contain regular expressions that backtrack exponentially, and chained replacements ("a" to
"aaaaaaaaaa") that expand one word to terabytes.  A file with such rules is first run in a separate process with time
and memory limits, on text that triggers bad behaviour: runs of one character, and strings that almost match a pattern.
The time limit is far longer than a well-behaved tokenizer needs.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from flashstill.bounded import read_bounded
from flashstill.distill.isolated import Flooded, start
from flashstill.errors import BadInput
from flashstill.files import sha256

MOST_BYTES = 256 * 2**20
RULES = (b'"Regex"', b'"Replace"', b'"Prepend"', b'"Precompiled"', b"\\u00", b'"Fixed"')
"""Substrings of a tokenizer.json that call for a test, which takes about a second; "\\u00" could hide the others."""
START_S, LONGEST_S = 60.0, 25.0
"""time limits: to import the library on a busy machine, and for the test"""
TOKENS_PER_CHARACTER = 24.0
"""limit; byte-level tokenizers need up to 4 tokens, Unicode normalisation makes up to 18 characters of one"""
PROBE_CHARACTERS, MOST_GROWTH = 4000, 10_000.0


def check_tokenizer(file: Path) -> None:
    """BadInput if a tokenizer.json needs too much time or memory on ordinary amounts of text; no file is accepted."""
    if not file.exists():
        return
    content = read_bounded(file, MOST_BYTES)
    if any(rule in content for rule in RULES):
        del content
        _tried(str(file.absolute()), sha256(file))


@functools.lru_cache(maxsize=64)
def _tried(file: str, _digest: str) -> None:
    process = start(__name__, file)
    try:
        process.ask(b"", START_S)
        report = json.loads(process.ask(b"", LONGEST_S))
    except (TimeoutError, Flooded) as error:
        raise BadInput(
            f"{file} takes more than {LONGEST_S:g} s for a few pages of text; its rules backtrack or grow"
        ) from error
    except (EOFError, ValueError) as error:
        raise BadInput(
            f"{file} cannot be read as a tokenizer, or needs far too much memory for a few pages of text"
        ) from error
    finally:
        process.end()
    if "refused" in report:
        raise BadInput(f"{file} cannot be read as a tokenizer: {report['refused']}")
    if report["most"] > TOKENS_PER_CHARACTER:
        raise BadInput(f"{file} makes {report['most']:g} tokens of a character; its rules make text grow without bound")


def probes() -> list[str]:
    """Texts of about 4,000 characters that a well-behaved tokenizer encodes in milliseconds."""
    runs = [letter * PROBE_CHARACTERS for letter in "a0 .!\n\té'A_<"]
    near = [f"{run[:-1]}{end}" for run in runs for end in ("!", "\u0001")]
    mixed = [
        "ab" * 2000,
        "a " * 2000,
        "a1" * 2000,
        "a\n" * 2000,
        "  \n" * 1300,
        "'s " * 1300,
        "".join(map(chr, range(32, 3000))),
    ]
    return runs + near + mixed


def growth(rules: Any) -> float:
    """Upper bound on the characters that all replacement rules of a tokenizer, applied in turn, make of one."""
    if isinstance(rules, list):
        return math.prod(map(growth, rules))
    if not isinstance(rules, dict):
        return 1.0
    inside = math.prod(growth(value) for name, value in rules.items() if name not in ("model", "added_tokens"))
    if rules.get("type") != "Replace" or not isinstance(rules.get("content"), str):
        return inside
    pattern = rules.get("pattern")
    shortest = len(pattern["String"]) if isinstance(pattern, dict) and isinstance(pattern.get("String"), str) else 1
    return inside * max(1.0, len(rules["content"]) / max(1, shortest))


def main(file: str) -> None:
    """Entry point of the child process: asked once, it is ready; asked again, it prints the largest number of tokens
    per character over all probes, as JSON."""
    from tokenizers import Tokenizer

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdin.readline()
    print("true", file=answers, flush=True)
    sys.stdin.readline()
    try:
        grown = growth(json.loads(Path(file).read_text(encoding="utf-8")))
        if grown > MOST_GROWTH:
            print(json.dumps({"most": grown}), file=answers, flush=True)
            return
        tokenizer = Tokenizer.from_file(file)
        tokenizer.no_padding()
        tokenizer.no_truncation()
    except Exception as error:
        print(json.dumps({"refused": str(error)[:200]}), file=answers, flush=True)
        return
    short = "".join(map(chr, range(32, 127)))
    most = 0.0
    for text in [*short, *probes()]:  # single characters first: growth shows there before it takes all memory
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        most = max(most, len(ids) / len(text))
        if most > TOKENS_PER_CHARACTER:
            break
    print(json.dumps({"most": round(most, 1)}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
