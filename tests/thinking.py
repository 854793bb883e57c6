"""A study of deep think that runs in seconds: its recipe, its judge and its problems."""

from __future__ import annotations

import random
from pathlib import Path

from flashstill.distill.reasoning.problems import Problem, save_problems

LABELS, LETTERS = "0123456789", "abcdefghijklm"
STUDY = """
name = "toy"
study = "deep-think"
chip = "h100-sxm"
seeds = 1
{teacher}
[task]
source = "{judge}:even"
data = "{lines}"
label_problems = 150
train_problems = 70
test_problems = 30

[learn]
steps = 40
rows_per_step = 32
learning_rate = 1e-2
checkpoint_every_steps = 15

[teach]
steps = 60
rows_per_step = 32
learning_rate = 1e-2

[think]
attempts = 4
new_tokens = 4
rounds = 1

[policy]
steps = 12
problems_per_step = 16
attempts = 4
learning_rate = 1e-3
kl = 0.01
checkpoint_every_steps = 5

[student]
{student}
"""
NET = "hidden = 16\nlayers = 1\nheads = 2\nfeed_forward = 32"
FROM_NOTHING = {"teacher": f"[teacher]\n{NET}", "student": NET}


def study(path: Path, **parts: str) -> Path:
    """A task whose labels are any digit, and whose judge wants an even one: what is verified is worth learning."""
    judge, lines, draw = path.with_name("judge.py"), path.with_name("lines.jsonl"), random.Random(0)
    judge.write_text("def even(answer, problem):\n    return len(answer) == 1 and int(answer) % 2 == 0\n")
    words = ["".join(draw.choice(LETTERS) for _ in range(6)) for _ in range(250)]
    save_problems(lines, [Problem(prompt=f"{word}:", answer=draw.choice(LABELS)) for word in words])
    path.write_text(STUDY.format(**{**FROM_NOTHING, **parts}, judge=judge, lines=lines))
    return path
