"""Learning from a teacher's distribution against learning from the text, at several sizes of the student.

    saved(size) = L_labels(size) - L_distilled(size)            L: held-out loss, nats per token

Gemma Team 2024, "Gemma 2", table 7: perplexity of models of 200 M, 400 M and 1 B parameters from scratch and distilled
from one of 7 B is 23 and 21, 19 and 17, 17 and 15: 0.091, 0.111 and 0.125 nats saved, which does not shrink with size.
Here both arms of a size have the same first weights, windows, steps and learning rate.
"""

from __future__ import annotations

import math
from pathlib import Path

from flashstill.progress import Progress
from flashstill.recipes.from_scratch import KdBySize
from flashstill.studies.arms import DOMAINS, Quality, losses, measured, nats
from flashstill.studies.from_scratch import own_teacher, train_and_evaluate
from flashstill.studies.seeds import Bar, Result

LEAST, SMALLEST = "nats saved, least of all sizes", "nats saved, smallest"
BARS = {
    LEAST: Bar(least=0.0),
    f"{LEAST}, other domain": Bar(least=0.0),
    "saved by the largest over the smallest": Bar(least=1.0, given=SMALLEST),
}


def run(recipe: KdBySize, seed: int, place: Path, progress: Progress) -> Result:
    """Run one seed, which determines the held-out documents, all initial weights and the order of windows."""
    teacher = own_teacher(recipe, seed, place, progress)
    arms = recipe.arms(seed, str(teacher), str(place / "shapes"))
    starts = {name: name.rpartition("-")[0] for name in arms}
    return result(recipe, train_and_evaluate(arms, starts, place, progress))


def result(recipe: KdBySize, quality: Quality) -> Result:
    """Losses, perplexities and distances of all sizes, what the teacher saved at each, and the ratio of the ends."""
    names = {name: name.replace("-", ", ") for name in quality}
    measures = losses(quality, names)
    measures |= measured(quality, names, {"perplexity": "perplexity"})
    names.pop("teacher")
    measures |= measured(quality, names, {"kl_to_teacher": "KL to the teacher"})
    shares = {}
    for domain, where in DOMAINS.items():
        suffix = "" if domain == "heldout" else f", {where}"
        saved = [
            nats(quality, f"{student.name}-labels", domain) - nats(quality, f"{student.name}-distilled", domain)
            for student in recipe.students
        ]
        for student, value in zip(recipe.students, saved, strict=True):
            measures[f"nats saved, {student.name}{suffix}"] = value
            measures[f"perplexity saved, {student.name}{suffix}"] = _less(quality, student.name, domain)
        measures[LEAST + suffix] = min(saved)
        measures[SMALLEST + suffix] = saved[0]
        shares[f"saved by the largest over the smallest{suffix}"] = (saved[-1], saved[0])
    return Result(measures=measures, shares=shares, details={"quality": quality})


def _less(quality: Quality, student: str, domain: str) -> float:
    """Perplexity on labels less that of the distilled student."""
    labels, distilled = (math.exp(nats(quality, f"{student}-{kind}", domain)) for kind in ("labels", "distilled"))
    return labels - distilled
