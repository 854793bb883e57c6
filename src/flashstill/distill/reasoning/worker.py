"""The process that judges: reads a task and its problems once, then one question a line, and answers each at once.

    in    [number, problem, "answer"]        number: of the question; problem: its place in the list
    out   number {"score": 1.0}   or   number {"raised": "ValueError: ..."}

It holds no torch, writes nothing, and may die at any moment: whoever asked starts another one (judging.py).
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
    """Judge until there are no more questions; of the processor each gets `seconds` and a little more."""
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
        number, place, answer = json.loads(line)
        try:
            allow(float(seconds))
            score = judge(answer, rows[place])
            text = json.dumps({"score": score.item() if hasattr(score, "item") else score})  # NumPy's numbers
        except BaseException as error:  # a judge is somebody else's code: it may raise anything, SystemExit included
            text = json.dumps({"raised": described(error)})
        print(number, text, file=answers, flush=True)


def allow(seconds: float) -> None:
    """Raise the limit of processor time; the asking process times out sooner, unless it was stopped."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    until = math.ceil(spent.ru_utime + spent.ru_stime + 2 * seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (until if most == resource.RLIM_INFINITY else min(until, most), most))


def described(error: BaseException) -> str:
    """Kind and message of an exception; computing the message may itself run a user's code, and fail."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:
        return type(error).__name__


if __name__ == "__main__":
    main(*sys.argv[1:])
