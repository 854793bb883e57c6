"""The judge process: reads a task and its problems once, then one question per line, and answers each immediately.

    in    [number, problem, "answer"]        number: of the question; problem: its index in the list
    out   number {"score": 1.0}   or   number {"raised": "ValueError: ..."}

It does not import torch, writes no files, and may die at any time: judging.py then starts a new one.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from flashstill.distill.reasoning.problems import load_problems
from flashstill.distill.reasoning.spec import Spec
from flashstill.distill.reasoning.tasks import judge_of
from flashstill.errors import BadInput


def main(task: str, problems: str, seconds: str) -> None:
    """Judge until there are no more questions; CPU time per question is limited to a little more than `seconds`."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of the judge's code must not mix with the replies
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    try:
        judge = judge_of(Spec(**json.loads(task)))
        rows = [asdict(problem) for problem in load_problems(Path(problems))]
    except BadInput as error:
        print(json.dumps({"refused": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"ready": len(rows)}), file=answers, flush=True)
    for line in sys.stdin:
        number, place, answer = json.loads(line)
        try:
            allow(float(seconds))
            score = judge(answer, rows[place])
            text = json.dumps({"score": score.item() if hasattr(score, "item") else score})  # NumPy's numbers
        except BaseException as error:  # a judge is untrusted code and may raise anything, even SystemExit
            text = json.dumps({"raised": described(error)})
        print(number, text, file=answers, flush=True)


def allow(seconds: float) -> None:
    """Raise the CPU time limit; the parent process normally times out earlier, unless it was stopped."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    until = math.ceil(spent.ru_utime + spent.ru_stime + 2 * seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (until if most == resource.RLIM_INFINITY else min(until, most), most))


def described(error: BaseException) -> str:
    """Type and message of an exception; its `__str__` may be a user's code, and fail."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:
        return type(error).__name__


if __name__ == "__main__":
    main(*sys.argv[1:])
