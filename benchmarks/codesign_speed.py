#!/usr/bin/env python3
"""Processor seconds of all elasticities of every chip, for twenty models, on one core.

Prints a table on stderr and one JSON line on stdout: seconds (imports included), import_s, pairs, elasticities,
pairs_per_s, and configurations of the whole searches behind them.  One call asks for all of them.  Processor time, so
that a busy machine does not count; the processor's caches are shared all the same.
"""

from __future__ import annotations

import time

_STARTED = time.process_time()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402

MODELS = (
    "qwen3-0.6b", "qwen3-8b", "qwen3-32b", "llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "gemma-3-27b", "phi-4",
    "mistral-7b", "qwen2.5-72b", "gpt-oss-20b", "gpt-oss-120b", "qwen3-30b-a3b", "qwen3-235b-a22b", "mixtral-8x7b",
    "deepseek-v3", "deepseek-v2-lite", "kimi-k2", "glm-4.5-air", "qwen3-next-80b-a3b",
)  # fmt: skip
"""dense and sparse, with full, sliding, latent and linear attention; from half a billion to a trillion parameters"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two models: a smoke test")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import flashstill as fs

    models = MODELS[:2] if options.quick else MODELS
    from flashstill.facts import load

    facts = load()
    imported = time.process_time() - _STARTED
    answer = fs.codesign(model=list(models), chip="all", doubling=False, facts=facts)
    total = time.process_time() - _STARTED
    pairs = [pair.sensitivity for pair in answer.pairs]
    feasible = sum(bool(pair.optima) for pair in pairs)
    elasticities = sum(
        value is not None for pair in answer.pairs for of in pair.elasticities.values() for value in of.values()
    )
    print(f"{'chips x models':<24}{len(pairs):>8}", file=sys.stderr)
    print(f"{'with a configuration':<24}{feasible:>8}", file=sys.stderr)
    print(f"{'elasticities':<24}{elasticities:>8}", file=sys.stderr)
    print(f"{'imports':<24}{imported:>8.3f} s of one core", file=sys.stderr)
    print(f"{'all, imports included':<24}{total:>8.3f} s of one core", file=sys.stderr)
    document = {
        "seconds": round(total, 3), "import_s": round(imported, 3), "models": len(models), "pairs": len(pairs),
        "feasible_pairs": feasible, "elasticities": elasticities,
        "configurations": sum(pair.configurations for pair in pairs), "pairs_per_s": round(len(pairs) / total),
    }  # fmt: skip
    print(json.dumps(document))


if __name__ == "__main__":
    main()
