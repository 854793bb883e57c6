"""How near a student comes to its teacher in several passes over the same text: on soft targets and on labels.

    gap closed(arm, p) = (L_labels(1) - L_arm(p)) / (L_labels(1) - L_teacher)       L: held-out loss, nats per token

L_labels(1) is the student's after the smallest number of passes on labels.  Each number of passes is a training of its
own, whose learning rate falls to its end; all have the same first weights.  The claim, as it is often made: a small
student may pass many times over a very large set, as a distribution says more of each token than the token itself does,
and so it comes very close to its teacher (the bar: 0.8 of the gap); labels wear out sooner.
"""

from __future__ import annotations

from pathlib import Path

from flashstill.progress import Progress
from flashstill.recipes.from_scratch import KdByPasses
from flashstill.studies.arms import DOMAINS, Quality, losses, measured, nats
from flashstill.studies.from_scratch import own_teacher, train_and_evaluate
from flashstill.studies.seeds import Bar, Result

GAP = "nats of labels above the teacher, fewest passes"
CLOSED = "gap closed, distilled, most passes"
MORE = "nats that passes save, distilled less labels"
BARS = {CLOSED: Bar(least=0.8, given=GAP), MORE: Bar(least=0.0)}
KINDS = ("distilled", "labels")


def run(recipe: KdByPasses, seed: int, place: Path, progress: Progress) -> Result:
    """Run one seed, which determines the held-out documents, all initial weights and the order of windows."""
    teacher = own_teacher(recipe, seed, place, progress)
    arms = recipe.arms(seed, str(teacher), str(place / "shapes"))
    quality = train_and_evaluate(arms, dict.fromkeys(arms, "new"), place, progress)
    return result(recipe, quality)


def result(recipe: KdByPasses, quality: Quality) -> Result:
    """Losses and distances by passes, and the share of the gap that each arm closes."""
    names = {"teacher": "teacher"} | {
        f"{passes}-{kind}": f"{kind}, {_times(passes)}" for kind in KINDS for passes in recipe.passes
    }
    measures = losses(quality, names)
    names.pop("teacher")
    measures |= measured(quality, names, {"kl_to_teacher": "KL to the teacher"})
    first, last = recipe.passes[0], recipe.passes[-1]
    shares: dict[str, tuple[float, float]] = {}
    for domain, where in DOMAINS.items():
        suffix = "" if domain == "heldout" else f", {where}"
        base = nats(quality, f"{first}-labels", domain)
        gap = base - nats(quality, "teacher", domain)
        measures[GAP + suffix] = gap
        closed = {name: (base - nats(quality, name, domain), gap) for name in names}
        shares |= {f"gap closed, {names[name]}{suffix}": pair for name, pair in closed.items()}
        shares[CLOSED + suffix] = closed[f"{last}-distilled"]
        saved = [nats(quality, f"{first}-{kind}", domain) - nats(quality, f"{last}-{kind}", domain) for kind in KINDS]
        measures[MORE + suffix] = saved[0] - saved[1]
    return Result(measures=measures, shares=shares, details={"quality": quality})


def _times(passes: int) -> str:
    return "1 pass" if passes == 1 else f"{passes} passes"
