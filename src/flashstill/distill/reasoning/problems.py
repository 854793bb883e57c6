"""Problems, when two of them count as equal, and disjoint training and test sets.

Two problems count as equal if their prompts contain the same three or more numbers in any order, or with fewer numbers
the same words: generators shuffle numbers and vary the sentence around them.  The test set is drawn first, then the
training set, without problems that equal a test problem or an earlier one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flashstill.distill.data.text_files import json_line, lines_of, valid
from flashstill.errors import BadInput
from flashstill.files import write_text

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WORD = re.compile(r"\w+")
NUMBERS_THAT_TELL = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A question and one right answer. entry: further data for its verifier, plain JSON."""

    prompt: str
    answer: str
    entry: Mapping[str, Any] = field(default_factory=dict)

    @property
    def same(self) -> str:
        """A canonical form: equal for problems that count as equal."""
        numbers = sorted(_NUMBER.findall(self.prompt))
        telling = numbers if len(numbers) >= NUMBERS_THAT_TELL else sorted(_WORD.findall(self.prompt.lower()))
        return hashlib.sha256(" ".join(telling or [self.prompt]).encode()).hexdigest()


def without_repeats(problems: Iterable[Problem], known: set[str]) -> list[Problem]:
    """The problems, in order, without those that equal an earlier one or one whose `same` is known; it is then."""
    kept = []
    for problem in problems:
        same = problem.same
        if same not in known:
            known.add(same)
            kept.append(problem)
    return kept


def check_disjoint(training: Sequence[Problem], test: Sequence[Problem]) -> None:
    """Raises BadInput if a test problem is also a training problem."""
    known = {problem.same for problem in training}
    shared = [problem for problem in test if problem.same in known]
    if shared:
        raise BadInput(
            f"{len(shared)} of {len(test)} test problems are in the training set too, the first of them"
            f" {shared[0].prompt[:80]!r}; take other ones, a score on these would mean nothing"
        )


def save_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Write one JSON line per problem, atomically."""
    write_text(path, "".join(json.dumps(asdict(problem)) + "\n" for problem in problems))


def load_problems(path: Path) -> list[Problem]:
    """Read a file written by `save_problems`, or a user's JSON lines with "prompt" and "answer"."""
    problems = [
        _problem(line, f"problems {path}, line {number}") for number, line in lines_of(path, f"problems {path}")
    ]
    if not problems:
        raise BadInput(f'problems {path} holds none; give JSON lines with "prompt" and "answer"')
    return problems


def _problem(line: str, where: str) -> Problem:
    row = json_line(line, where)
    if not isinstance(row, dict):
        raise BadInput(f"{where} is not a JSON object")
    prompt, answer = row.get("prompt"), row.get("answer")
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadInput(f'{where} has no "prompt" with text in it')
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        answer = str(answer)
    if not isinstance(answer, str) or not answer.strip():
        raise BadInput(f'{where} has no "answer" with text or a number in it')
    entry = row.get("entry", {})
    if not isinstance(entry, dict):
        raise BadInput(f'{where}: "entry" is not a JSON object')
    return Problem(prompt=valid(prompt, where), answer=valid(answer, where), entry=entry)
