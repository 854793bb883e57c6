"""Plant a seeded sample of small faults and count how many the fast tests notice.

First the fast suite runs once under coverage, to learn which tests reach which line; `--reach DIR` keeps that.  Then
every fault is tried against the tests that reach its line, the quickest first.  Exit 1 below `--least` percent.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from tests.mutation.places import ROOMS, ROOT, Fault, draw
from tests.mutation.reach import Reach, make_reach
from tests.mutation.trial import import_heavy, noticed, warm_up

EQUIVALENT = Path(__file__).with_name("equivalent.csv")


def main() -> int:
    """The score, by rooms, and every fault that nobody noticed."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="faults [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", default=",".join(ROOMS), help="with commas [default: %(default)s]")
    parser.add_argument("--reach", type=Path, default=ROOT / "out" / "mutation", help="made where it is missing")
    parser.add_argument("--tests-s", type=float, default=30.0, help="most seconds of tests a fault [default: 30]")
    parser.add_argument("--again", type=Path, default=None, help="try the faults that this file of --out lists")
    parser.add_argument("--suite", nargs="*", default=[], help="test files that --reach is made of [default: all]")
    parser.add_argument("--more", nargs="*", default=[], help="test files newer than --reach, to be added to it")
    parser.add_argument("--out", type=Path, default=None, help="unnoticed faults as JSON")
    parser.add_argument("--least", type=float, default=85.0, help="percent [default: %(default)s]")
    asked = parser.parse_args()
    import_heavy()
    if not (asked.reach / "seconds.json").exists():
        make_reach(asked.reach, asked.suite)
    if asked.more:
        make_reach(asked.reach, asked.more)
    faults = (
        [Fault(**row) for row in json.loads(asked.again.read_text(encoding="utf-8"))]
        if asked.again
        else draw(asked.rooms.split(","), asked.count, asked.seed)
    )
    missed = _tried(faults, Reach(asked.reach), asked.tests_s)
    if asked.out:
        asked.out.write_text(json.dumps([asdict(fault) for fault in missed], indent=1), encoding="utf-8")
    return _report(faults, missed, asked.least)


def _tried(faults: list[Fault], reach: Reach, most_s: float) -> list[Fault]:
    """The faults that no test noticed."""
    missed: list[Fault] = []
    warm_up(sorted({test.partition("::")[0] for test in reach.seconds}))
    if faults and noticed(_mended(faults[0]), reach.tests(faults[0], most_s), 600.0):
        raise SystemExit("a test fails without any fault; mend it, or make --reach anew")
    for number, fault in enumerate(faults, start=1):
        begun, rounds = time.monotonic(), reach.rounds(fault, most_s)
        every = [test for tests in rounds for test in tests]
        seen = any(noticed(fault, tests, 30.0 + 5.0 * most_s) for tests in rounds) or (
            bool(every) and noticed(fault, every, 60.0 + 5.0 * most_s, anew=True)
        )
        missed += [] if seen else [fault]
        word = "noticed" if seen else "MISSED" if rounds else "MISSED, as no test reaches it"
        spent = f"{time.monotonic() - begun:.1f} s, {sum(map(len, rounds))} tests"
        print(
            f"{number:4} {word:8} {fault.file}:{fault.line}  {fault.before}  ->  {fault.after}  ({spent})", flush=True
        )
    return missed


def _mended(fault: Fault) -> Fault:
    """The file as it is: no test may notice that."""
    return replace(fault, source=(ROOT / fault.file).read_text(encoding="utf-8"))


def _report(faults: list[Fault], missed: list[Fault], least: float) -> int:
    with EQUIVALENT.open(encoding="utf-8", newline="") as file:
        same = {(row["file"], row["before"], row["after"]) for row in csv.DictReader(file)}
    equivalent = [fault for fault in missed if (fault.file, fault.before, fault.after) in same]
    everywhere, unnoticed = Counter(map(_room, faults)), Counter(map(_room, missed))
    harmless = Counter(map(_room, equivalent))
    print(f"\n{'room':24} faults  noticed  equivalent  missed")
    for room, count in sorted(everywhere.items()):
        left = unnoticed[room] - harmless[room]
        print(f"{room:24} {count:6}  {count - unnoticed[room]:7}  {harmless[room]:10}  {left:6}")
    judged = len(faults) - len(equivalent)
    score = 100.0 * (len(faults) - len(missed)) / max(judged, 1)
    print(f"\nnoticed: {score:.1f} % of {judged}; {len(equivalent)} more change nothing that could be seen\n")
    for fault in missed:
        if fault not in equivalent:
            print(f"  {fault.file}:{fault.line}\n    - {fault.before}\n    + {fault.after}")
    return 0 if score >= least else 1


def _room(fault: Fault) -> str:
    return "/".join(Path(fault.file).parts[2:-1])


if __name__ == "__main__":
    sys.exit(main())
