"""`scripts/fuzz`: make bad inputs, run each, and report what a user should never have seen."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.fuzzing import costs, learning
from tests.fuzzing.corpus import Corpus, build
from tests.fuzzing.sandbox import Bounds, Trial, faults, run

Maker = Callable[[random.Random, Corpus, Path], Trial]
KINDS: dict[str, tuple[Maker, int]] = {
    "configs": (costs.configs, 21),
    "cases": (costs.cases, 12),
    "facts": (costs.facts, 13),
    "edits": (costs.edits, 10),
    "flags": (costs.flags, 16),
    "recipes": (learning.recipes, 6),
    "results": (learning.results, 5),
    "models": (learning.models, 3),
    "data": (learning.data, 2),
    "labelled": (learning.labelled, 2),
    "anchors": (costs.anchors, 2),
    "traces": (costs.traces, 6),
    "measured": (costs.measured, 2),
}
"""makers, and the share of each kind in a hundred"""


def main() -> int:
    """Exit 0 where nothing was found, 1 otherwise."""
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # compiling the event loop takes longer than its short runs
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="inputs [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas [default: all]")
    parser.add_argument("--only", type=int, default=None, help="run this number alone, and show what it prints")
    parser.add_argument("--workers", type=int, default=2, help="processes [default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=30.0, help="most of one input [default: %(default)s]")
    parser.add_argument("--keep", type=Path, default=Path("out/fuzz"), help="where failing inputs stay")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    kinds = [kind for kind in KINDS if kind in asked.kinds.split(",")]
    _preload()
    corpus = build(Path(tempfile.gettempdir()) / f"flashstill-fuzz-{os.getuid()}-{_version()}")
    numbers = [asked.only] if asked.only is not None else list(range(asked.count))
    jobs = [(number, asked.seed, kinds, corpus, asked.keep, Bounds(seconds=asked.seconds)) for number in numbers]
    if asked.only is not None:
        found = _one(jobs[0])
        print(json.dumps(found, indent=1), (asked.keep / f"{asked.seed}-{asked.only}").resolve(), sep="\n")
        return 1 if found["faults"] else 0
    started, bad = time.monotonic(), []
    counts: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    slowest, largest = 0.0, 0
    with get_context("fork").Pool(asked.workers) as pool:
        for done, found in enumerate(pool.imap_unordered(_one, jobs, chunksize=4), start=1):
            counts[found["kind"]] += 1
            codes[found["code"]] += 1
            slowest, largest = max(slowest, found["seconds"]), max(largest, found["peak_bytes"])
            if found["faults"]:
                bad.append(found)
                print(
                    f"{found['number']} {found['kind']}: {'; '.join(found['faults'])}: {found['said'][:200]}",
                    flush=True,
                )
            if done % 250 == 0:
                left = (time.monotonic() - started) / done * (len(jobs) - done)
                print(f"{done} of {len(jobs)}, {len(bad)} faults, {left:.0f} s left", file=sys.stderr, flush=True)
    document = {
        "inputs": len(jobs), "seed": asked.seed, "kinds": dict(counts),
        "exit_codes": {str(code): codes[code] for code in sorted(codes)},
        "faults": len(bad), "slowest_s": round(slowest, 1), "peak_gib": round(largest / 2**30, 2),
        "seconds": round(time.monotonic() - started),
    }  # fmt: skip
    print(json.dumps(document))
    return 1 if bad else 0


def _preload() -> None:
    """The heavy libraries, once: every trial is a fork of a process that has them."""
    import pyarrow.parquet
    import torch
    import transformers

    import flashstill.cli
    import flashstill.plan.search
    import flashstill.report.page
    import flashstill.report.study
    import flashstill.runs.distillation
    from flashstill.distill.models import quiet

    torch.set_num_threads(1)
    quiet()
    assert all((pyarrow.parquet, transformers, flashstill.cli, flashstill.plan.search, flashstill.report.page))


def _version() -> str:
    """The corpus is made anew where the code that makes it or writes results changed."""
    root = Path(__file__).parent.parent.parent
    names = ("records.py", "recipes/**/*.py", "family/**/*.py", "report/**/*.py")
    files = sorted(file for name in names for file in (root / "src/flashstill").glob(name))
    files.append(root / "tests/tiny.py")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _one(job: tuple[int, int, list[str], Corpus, Path, Bounds]) -> dict[str, Any]:
    number, seed, kinds, corpus, keep, bounds = job
    chance = random.Random(f"{seed}:{number}")
    kind = chance.choices(kinds, [KINDS[each][1] for each in kinds])[0]
    folder = Path(tempfile.mkdtemp(prefix="flashstill-trial-"))
    try:
        trial = KINDS[kind][0](chance, corpus, folder)
        outcome = run(trial, folder, bounds)
        wrong = list(faults(trial, outcome, bounds))
        said = (outcome.stderr.strip().splitlines() or [""])[-1]
        if wrong:
            kept = keep / f"{seed}-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, kept, symlinks=True)
            (kept / "arguments.json").write_text(json.dumps(trial.arguments), encoding="utf-8")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "number": number, "kind": kind, "arguments": trial.arguments, "code": outcome.code, "faults": wrong,
        "said": said, "seconds": round(outcome.seconds, 2), "peak_bytes": outcome.peak_bytes,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
