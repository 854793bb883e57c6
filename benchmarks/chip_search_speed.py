"""A million designs of chips searched for one load: processor time of one core.

    .venv/bin/python benchmarks/chip_search_speed.py                       # a few seconds
    .venv/bin/python benchmarks/chip_search_speed.py --model deepseek-v3 --designs 3000000

`first_s`: the first search of a process, with the tables of dies that later ones keep.  `search_s`: the least of three
more, each with the screen, the hunts by dollars, joules and seconds, refinement, the front, features and nearest chips.
`screen_s`: the screen alone.  The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import time

from flashstill.chip_searching import chip_search


def searched(model: str, designs: int, max_tpot_s: float) -> tuple[float, dict[str, float]]:
    """Processor seconds of one search, and what it says about itself."""
    began = time.process_time()
    answer = chip_search(model=model, designs=designs, max_tpot_s=max_tpot_s)
    return time.process_time() - began, dict(answer.searched)


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3.1-70b")
    parser.add_argument("--designs", type=int, default=1_000_000)
    parser.add_argument("--max-tpot", type=float, default=0.05)
    asked = parser.parse_args()
    first_s, _ = searched(asked.model, asked.designs, asked.max_tpot)
    rounds = [searched(asked.model, asked.designs, asked.max_tpot) for _ in range(3)]
    search_s, found = min(rounds, key=lambda pair: pair[0])
    line = {
        "model": asked.model,
        "designs": found["designs"],
        "can_be_made": found["can_be_made"],
        "priced_in_full": found["priced_in_full"],
        "first_s": first_s,
        "search_s": search_s,
        "screen_s": found["screening_cpu_s"],
        "designs_per_s": found["designs"] / search_s,
    }
    for name, value in line.items():
        print(f"{name:16}{value:>16,.2f}" if isinstance(value, float) else f"{name:16}{value:>16}")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
