#!/usr/bin/env python3
"""Text of any size into packed windows: tokens/s and peak memory, beside the tokenizers library alone.

A corpus is made of the paragraphs of Python's documentation and sources, drawn at random, as JSON lines; it is packed
as a recipe's training text is (sorted on the disk, tokenised in chunks, written in blocks), in a process of its own
whose peak memory is told.  The library alone: encode_batch_fast over the same texts in the same batches, with its own
threads, which keeps nothing.  Two sizes give the slope, and from it memory and time of 1 B tokens.  Prints a table on
stderr and one JSON line on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL, WINDOW, SEED = "smollm2-135m-instruct", 1024, 0
DOCUMENT_CHARACTERS = 3000
BILLION = 10**9


def make_corpus(path: Path, tokens: int) -> None:
    """Documents of a few paragraphs each, about 3.6 characters a token."""
    from flashstill.distill.data.text import cpython_code, cpython_docs

    documents = [*cpython_docs(), *cpython_code()]
    paragraphs = [part for document in documents for part in document.text.split("\n\n") if len(part) > 40]
    draws, written = random.Random(SEED), 0
    with path.open("w", encoding="utf-8") as stream:
        while written < 3.6 * tokens:
            parts, size = [], 0
            while size < DOCUMENT_CHARACTERS:
                parts.append(draws.choice(paragraphs))
                size += len(parts[-1])
            written += size
            stream.write(json.dumps({"text": "\n\n".join(parts)}) + "\n")


def measured(job: str, folder: Path, corpus: Path, tokens: int) -> dict[str, Any]:
    """Run one job in a process of its own."""
    asked = json.dumps({"job": job, "folder": str(folder), "corpus": str(corpus), "tokens": tokens})
    ran = subprocess.run([sys.executable, __file__, "--job", asked], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def do(asked: dict[str, Any]) -> dict[str, Any]:
    """One job: what it made, its seconds, its processor's seconds, and the peak of its memory above the start."""
    from flashstill.distill.models import load_tokenizer
    from flashstill.distill.teachers import resolve_teacher
    from flashstill.progress import Silent

    tokenizer = load_tokenizer(resolve_teacher(MODEL, Silent()))
    before = time.perf_counter(), time.process_time()
    tokens = pack(asked, tokenizer) if asked["job"] == "pack" else encode(asked, tokenizer)
    after = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"tokens": tokens, "s": after[0] - before[0], "cpu_s": after[1] - before[1], "peak_bytes": peak}


def pack(asked: dict[str, Any], tokenizer: Any) -> int:
    from flashstill.distill.data import corpus
    from flashstill.distill.data.chats import Reading
    from flashstill.distill.data.splits import Sizes, packed_splits

    corpus.MOST_IN_MEMORY = min(corpus.MOST_IN_MEMORY, 2**20)  # a small sample goes the way of a large source
    sizes = Sizes(
        window_tokens=WINDOW, train_tokens=10 * asked["tokens"], heldout_tokens=64 * WINDOW, out_of_domain_tokens=WINDOW
    )
    folder = Path(asked["folder"])
    other = folder.parent / "other.txt"
    other.write_text("\n\n".join(f"{number} words of another kind. " * 100 for number in range(200)))
    packed = packed_splits(asked["corpus"], str(other), Reading(tokenizer=tokenizer), sizes, SEED, folder)["train"]
    return packed.token_count


def encode(asked: dict[str, Any], tokenizer: Any) -> int:
    from flashstill.distill.data.pieces import BATCH_CHARACTERS, parallel

    rules, count = tokenizer.backend_tokenizer, 0
    rules.no_truncation()
    rules.no_padding()
    batch: list[str] = []
    size = 0
    with parallel(), Path(asked["corpus"]).open(encoding="utf-8") as stream:
        for line in stream:
            batch.append(json.loads(line)["text"])
            size += len(batch[-1])
            if size >= BATCH_CHARACTERS:
                count += sum(map(len, rules.encode_batch_fast(batch, add_special_tokens=False)))
                batch, size = [], 0
    return count + sum(map(len, rules.encode_batch_fast(batch, add_special_tokens=False)))


def main() -> None:
    """Measure both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=float, default=1e8)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        print(json.dumps(do(json.loads(given.job))))
        return
    rows = []
    for tokens in (int(given.tokens / 4), int(given.tokens)):
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder) / "corpus.jsonl"
            make_corpus(corpus, tokens)
            alone = measured("encode", Path(folder), corpus, tokens)
            ours = measured("pack", Path(folder) / "data", corpus, tokens)
        rows.append({"ours": ours, "library": alone})
        rates = {name: row["tokens"] / row["s"] for name, row in rows[-1].items()}
        per_cpu = {name: row["tokens"] / row["cpu_s"] for name, row in rows[-1].items()}
        print(
            f"{ours['tokens']:>13,} tokens: {rates['ours']:>9,.0f} tokens/s, {rates['ours'] / rates['library']:.0%} of"
            f" the library's {rates['library']:,.0f}; by processor time {per_cpu['ours'] / per_cpu['library']:.0%} of"
            f" {per_cpu['library']:,.0f}; peak {ours['peak_bytes'] / 2**20:,.0f} MiB"
            f" (library {alone['peak_bytes'] / 2**20:,.0f})",
            file=sys.stderr,
        )
    small, large = rows[0]["ours"], rows[1]["ours"]
    slope = (large["peak_bytes"] - small["peak_bytes"]) / (large["tokens"] - small["tokens"])
    billion = large["peak_bytes"] + max(0.0, slope) * (BILLION - large["tokens"])
    hours = BILLION / (large["tokens"] / large["s"]) / 3600
    print(f"1 B tokens by the slope: {billion / 1e9:.2f} GB of memory, {hours:.2f} hours", file=sys.stderr)
    print(json.dumps({
        "rows": rows, "billion_peak_bytes": billion, "billion_hours": hours, "processors": len(os.sched_getaffinity(0)),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
