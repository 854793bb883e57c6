"""Compares learning from a teacher's distribution with learning from the text: same student, start, windows, steps.

The student is the teacher with fewer blocks.  One arm learns from the teacher's exact distribution of every token
(forward KL; Hinton, Vinyals and Dean 2015, equation 4 at T = 1), the other from the next token of the text.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from flashstill.progress import Progress
from flashstill.recipes.language import KdAgainstLabels
from flashstill.studies.arms import DOMAINS, arithmetic_of, evaluate_arms, loads, measured, train_arms, trained
from flashstill.studies.seeds import Result

START = "pruned"
TO_TEACHER = {"kl_to_teacher": "KL to the teacher", "agreement": "agreement"}
OF_TEXT = {"bits_per_byte": "bits per byte", "perplexity": "perplexity"}


def run(recipe: KdAgainstLabels, seed: int, place: Path, progress: Progress) -> Result:
    """Run one seed, which determines the held-out documents and the order of documents and windows."""
    arms = recipe.arms(seed)
    train_arms(arms, dict.fromkeys(arms, START), place, progress)
    arithmetic = arithmetic_of(place)
    models = loads({name: trained(place, name) for name in arms} | {"untrained": place / "starts" / START}, place)
    starts = dict.fromkeys(arms, START)
    quality = evaluate_arms(models, arms, starts, place, progress, {"untrained": "distilled"})
    names = {name: name for name in arms}
    measures = dict(measured(quality, names, TO_TEACHER))
    measures |= measured(quality, {"teacher": "teacher", **names}, OF_TEXT)
    for metric, what in {**TO_TEACHER, **OF_TEXT}.items():
        for domain, where in DOMAINS.items():
            difference = quality["distilled"][domain][metric][0] - quality["labels"][domain][metric][0]
            measures[f"{what}, {where}: distilled less labels"] = difference
    return Result(measures=measures, details={"quality": quality, "arithmetic": asdict(arithmetic)})
