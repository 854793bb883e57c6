"""The loss increase due to rounding weights, and the share of it that quantisation-aware training recovers.

    share = (L_rounded - L_trained) / (L_rounded - L_teacher)

L is the held-out cross-entropy, nats a token: of the teacher, of its weights rounded without training, and of the
student that was trained with weights rounded in every forward pass (distill/students/quantise.py).  One student learns
from the teacher's distribution (forward KL, as Liu et al. 2023, "LLM-QAT"), the control from the text, for as many
steps.  An int4 student may start from weights that compensate each other's rounding errors (GPTQ,
students/compensated_model.py); the share of that start alone is a figure of its own.  The same share of the KL to the
teacher is 1 - KL_trained / KL_rounded.  The bars are about the KL: a loss also falls as the model learns the domain of
the text, which is not what rounding took away.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flashstill.progress import Progress
from flashstill.recipes.language import FormatRecipe, Rounding
from flashstill.studies.arms import (
    DOMAINS,
    Quality,
    evaluate_arms,
    loads,
    losses,
    measured,
    nats,
    train_arms,
    trained,
)
from flashstill.studies.seeds import Bar, Result

BARS = {"int4: KL won back": Bar(least=0.90), "ternary: KL won back": Bar(least=0.60)}


def run(recipe: Rounding, seed: int, place: Path, progress: Progress) -> Result:
    """Run one seed, which determines the held-out documents and the order of documents and windows."""
    from flashstill.distill.teachers import resolve_teacher

    arms = recipe.arms(seed)
    starts = {name: name.split("-")[0] for name in arms}
    train_arms(arms, starts, place, progress)
    models = loads({name: trained(place, name) for name in arms}, place)
    teacher = resolve_teacher(recipe.teacher, progress)
    for format_ in recipe.formats:
        places = {"rounded": teacher}
        if format_.compensate_windows:
            places["start"] = place / "starts" / format_.name
        for kind, load in loads(places, place).items():
            models[f"{format_.name}-{kind}"] = functools.partial(_rounded, load, format_)
    untrained = {name: f"{name.split('-')[0]}-distilled" for name in models if name not in arms}
    quality = evaluate_arms(models, arms, starts, place, progress, untrained)
    return result(recipe, quality)


def result(recipe: Rounding, quality: Quality) -> Result:
    """Losses, divergences on held-out text, and the recovered shares."""
    shares: dict[str, tuple[float, float]] = {}
    for format_ in recipe.formats:
        shares |= _shares(quality, format_)
    names = {name: name.replace("-", ", ") for name in sorted(quality)}
    measures = losses(quality, names)
    names.pop("teacher")
    measures |= measured(quality, names, {"kl_to_teacher": "KL to the teacher"}, ("heldout",))
    return Result(measures=measures, shares=shares, details={"quality": quality})


def _rounded(load: Callable[[], Any], format_: FormatRecipe) -> Any:
    from flashstill.distill.students import Format, round_model

    return round_model(load(), Format(name=format_.name, group=format_.group))


def _shares(quality: Quality, format_: FormatRecipe) -> dict[str, tuple[float, float]]:
    """(recovered, lost by plain rounding) of loss and KL, by domain; for the student, its control and its start."""
    shares, name = {}, format_.name
    arms = {"distilled": "won back", "labels": "won back with labels", "start": "won back before training"}
    for arm, words in arms.items():
        if f"{name}-{arm}" not in quality:
            continue
        for domain, where in DOMAINS.items():
            suffix = "" if domain == "heldout" else f", {where}"
            before, after = (nats(quality, f"{name}-{which}", domain) for which in ("rounded", arm))
            shares[f"{name}: loss {words}{suffix}"] = (before - after, before - nats(quality, "teacher", domain))
        before, after = (quality[f"{name}-{which}"]["heldout"]["kl_to_teacher"][0] for which in ("rounded", arm))
        shares[f"{name}: KL {words}"] = (before - after, before)
    return shares
