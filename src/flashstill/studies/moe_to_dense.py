"""MoE to dense distillation: how much of the MoE's gain a dense model with equal FLOPs per token keeps.

    share = (L_baseline - L_student) / (L_baseline - L_sparse)         L: held-out loss, nats per token

Fedus, Zoph and Shazeer 2022, "Switch Transformer", section 4.1: a dense student with the teacher's non-expert weights
that learns from hard and soft targets kept 29 % of the gap.  Here all but the last are trained on the same windows for
as many steps:

sparse             the teacher: glm4_moe, random first weights, trained on the text
baseline           dense, as many neurons as a token uses in the sparse model; random first weights, trained on the text
student            the same shape with the teacher's weights but its experts'; learns from its distribution and the text
weights-only       the student's first weights, trained on the text
distribution-only  random first weights, learns from the teacher's distribution and the text
baseline-twice     the baseline for twice the steps, as many as teacher and student take together
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashstill.arch.adapter.edit import new_sparse
from flashstill.errors import BadInput
from flashstill.files import write_text
from flashstill.progress import Progress
from flashstill.recipes.language import MoeToDense, SparseRecipe
from flashstill.runs import kept
from flashstill.runs.distillation import run_distillation
from flashstill.runs.workdir import Workdir
from flashstill.studies.arms import (
    DOMAINS,
    Quality,
    arithmetic_of,
    evaluate_arms,
    loads,
    losses,
    nats,
    train_arms,
    trained,
)
from flashstill.studies.seeds import Bar, Result

BARS = {"gap kept": Bar(least=0.45, given="sparse better than dense, nats, held out")}
LEAST_CONTEXT = 512
"""tokens of context that the model states, also where windows are shorter: rotary positions do not depend on it"""
STARTS = {
    "baseline": "new", "baseline-twice": "new", "distribution-only": "new", "student": "teacher",
    "weights-only": "teacher",
}  # fmt: skip
SHARES = {
    "gap kept": "student",
    "gap kept, weights only": "weights-only",
    "gap kept, distribution only": "distribution-only",
}


def run(recipe: MoeToDense, seed: int, place: Path, progress: Progress) -> Result:
    """Run one seed, which determines the held-out documents, all initial weights and the order of windows."""
    from flashstill.distill.models import load_model

    untrained, teacher = place / "untrained", trained(place, "sparse")
    _untrained(recipe, seed, untrained)
    sparse = recipe.teacher_arm(seed, str(untrained))
    run_distillation(sparse, Workdir.arm(place, "sparse", "sparse", "signals-untrained"), progress, judged=False)
    model = load_model(teacher, arithmetic_of(place).dtype)
    dense = place / "dense.json"
    write_text(dense, json.dumps(_dense_fields(model), indent=1))
    arms = recipe.arms(seed, str(teacher), str(dense))
    train_arms(arms, STARTS, place, progress)
    models = loads({name: trained(place, name) for name in arms}, place)
    quality = evaluate_arms(models, arms, STARTS, place, progress)
    sizes = {name: sum(weight.numel() for weight in load().parameters()) for name, load in models.items()}
    sizes["sparse"] = sum(weight.numel() for weight in model.parameters())
    return result(quality, {"parameters": sizes, "load": _last_load(teacher)})


def result(quality: Quality, details: Mapping[str, Any]) -> Result:
    """Losses, the gap between dense and MoE model, and the share of it that each student keeps."""
    names = {"teacher": "sparse"} | {name: name.replace("-", " ") for name in STARTS}
    measures = losses(quality, names)
    shares = {}
    for domain, where in DOMAINS.items():
        gap = nats(quality, "baseline", domain) - nats(quality, "teacher", domain)
        measures[f"sparse better than dense, nats, {where}"] = gap
        more = nats(quality, "baseline-twice", domain) - nats(quality, "student", domain)
        measures[f"student better than dense in twice the steps, nats, {where}"] = more
        for name, arm in SHARES.items():
            suffix = "" if domain == "heldout" else f", {where}"
            shares[name + suffix] = (nats(quality, "baseline", domain) - nats(quality, arm, domain), gap)
    return Result(measures=measures, shares=shares, details={"quality": quality, **details})


def _untrained(recipe: MoeToDense, seed: int, place: Path) -> None:
    """Write an MoE model with random weights and a tokenizer trained on its training text."""
    from flashstill.distill.data.splits import divided
    from flashstill.distill.data.vocabulary import learn_tokenizer
    from flashstill.distill.models import save_model
    from flashstill.distill.students import from_config

    if place.is_dir():
        return
    _, training = divided(recipe.data, recipe.text.heldout_tokens, recipe.text.window_tokens, seed)
    tokenizer = learn_tokenizer((document.text for document in training), recipe.vocabulary)
    fields = _sparse_fields(recipe.sparse, recipe.text.window_tokens)
    save_model(from_config(fields, len(tokenizer), seed), tokenizer, place)


def _sparse_fields(shape: SparseRecipe, window_tokens: int) -> dict[str, Any]:
    """The config.json fields of the MoE model, with the architecture of upcycled students."""
    return new_sparse(
        width=shape.hidden, depth=shape.layers, heads=shape.heads, context=max(LEAST_CONTEXT, window_tokens),
        routed=shape.experts, per_token=shape.experts_per_token, shared=shape.shared_experts,
        neurons=shape.expert_neurons,
    )  # fmt: skip


def _dense_fields(sparse: Any) -> dict[str, Any]:
    """The config.json fields of a dense model that fits the teacher's weights except its experts."""
    from flashstill.distill.students import dense_of

    found: dict[str, Any] = dense_of(sparse, 0, 0).config.to_dict()
    return {key: value for key, value in found.items() if value is not None}


def _last_load(teacher: Path) -> dict[str, float]:
    """Load balance of the experts in the last step of the teacher's training."""
    last = kept.steps(teacher.parent / "training")[-1]
    names = ("fullest_expert", "idle_experts")
    if not all(isinstance(last.get(name), float) for name in names):
        raise BadInput(f"{teacher.parent / 'training' / 'metrics.jsonl'}: the last line has no expert load")
    return {name: last[name] for name in names}
