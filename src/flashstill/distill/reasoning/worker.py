"""The process that judges: reads a task and its problems once, then one question a line, and answers each at once.

    in    [problem, "answer"]        problem: its place in the list
    out   {"score": 1.0}   or   {"raised": "ValueError: ..."}

It holds no torch, writes nothing, and may die at any moment: whoever asked starts another one (judging.py).
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from flashstill.distill.reasoning.problems import load_problems
from flashstill.distill.reasoning.tasks import Spec, judge_of
from flashstill.errors import BadInput

MEMORY_BYTES = 4 * 2**30


def main(task: str, problems: str) -> None:
    """Judge until there are no more questions."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a judge prints is no answer
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    try:
        judge = judge_of(Spec(**json.loads(task)))
        rows = [asdict(problem) for problem in load_problems(Path(problems))]
    except BadInput as error:
        print(json.dumps({"refused": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"ready": len(rows)}), file=answers, flush=True)
    for line in sys.stdin:
        place, answer = json.loads(line)
        try:
            score = judge(answer, rows[place])
            text = json.dumps({"score": score.item() if hasattr(score, "item") else score})  # NumPy's numbers
        except BaseException as error:  # a judge is somebody else's code: it may raise anything, SystemExit included
            text = json.dumps({"raised": f"{type(error).__name__}: {error}"[:300]})
        print(text, file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
