"""Random models, chips, tiers, formats, layouts and loads, drawn from a seed: what every command must agree on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from flashstill.arch import Architecture, known_models, load_architecture
from flashstill.facts import Facts, load
from flashstill.hardware import chip_from_facts, known_chips
from flashstill.plan.case import Case
from flashstill.plan.deployment import Deployment
from flashstill.plan.explain import Explanation, explain
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.room import check_room
from flashstill.plan.scenario import Scenario

FACTS = load()
CHIPS = known_chips(FACTS)
MODELS = known_models()
HEADS = ((8, 8), (8, 2), (12, 4), (16, 1), (9, 3), (32, 8))
"""query heads and heads of keys and values"""


def deployed(facts: Facts, model: Architecture, chip: str, batch: int, context: int, **more: Any) -> Resolved:
    """A deployment that holds the model and `batch` sequences of `context` tokens at a time."""
    scenario = Scenario(model=model, batch=batch, context=context)
    return check_room(resolve(facts, scenario, Deployment(chip=chip, **more)))


def explained(facts: Facts, model: Architecture, chip: str, batch: int, context: int, **more: Any) -> Explanation:
    """What `explain` says of one decode step."""
    return explain(facts, Scenario(model=model, batch=batch, context=context), Deployment(chip=chip, **more))


def random_model(draw: random.Random, folder: Path) -> str:
    """The path of a small model's configuration: dense, with a window, or with routed experts."""
    heads, groups = draw.choice(HEADS)
    config: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": heads * draw.choice((64, 128)),
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "num_hidden_layers": draw.randint(1, 40),
        "intermediate_size": 128 * draw.randint(1, 60),
        "vocab_size": draw.choice((1000, 32000, 151936)),
        "max_position_embeddings": 131072,
        "tie_word_embeddings": draw.random() < 0.5,
    }
    kind = draw.choice(("dense", "window", "experts"))
    if kind == "window":
        config |= {"model_type": "mistral", "sliding_window": draw.choice((128, 4096))}
    if kind == "experts":
        experts = draw.choice((8, 16, 64))
        config |= {"model_type": "mixtral", "num_local_experts": experts, "num_experts_per_tok": draw.randint(1, 4)}
    path = folder / f"model-{draw.randrange(10**12)}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return str(path)


def random_case(draw: random.Random, folder: Path) -> Case:
    """A case that may or may not make sense; lengths are such that isl + osl/2 is a whole number."""
    model = draw.choice(MODELS) if draw.random() < 0.6 else random_model(draw, folder)
    chip = chip_from_facts(FACTS, draw.choice(CHIPS))
    context = load_architecture(model).context
    isl = draw.randint(1, min(context // 2, 16000))
    tiers = [tier.name for tier in chip.tiers]
    case = Case.of(
        model=model,
        chip=chip.name,
        isl=isl,
        osl=1 if draw.random() < 0.05 else 2 * draw.randint(1, min(context // 4, 2000)),
        concurrency=draw.choice((1, 2, 3, 5, 16, 64, 333)),
        precision=draw.choice((None, None, "published", "bf16", "fp8", "fp4", "int8", "int4")),
        kv_precision=draw.choice((None, None, "fp8", "bf16")),
        weights_in=draw.choice((None, None, *tiers)),
        kv_in=draw.choice((None, None, *tiers)),
        engine=draw.choice((None, None, "none", "vllm", "sglang", "trtllm")),
        sampling=draw.choice(("greedy", "greedy", "top-p")),
    )
    split = draw.random()
    if split < 0.3:
        return case.but(chips=2 ** draw.randint(0, 8))
    if split < 0.7:
        powers = {name: 2 ** draw.randint(0, 4) for name in ("tp", "pp", "dp")}
        case = case.but(**powers, ep=draw.choice((None, None, 1, 2, 4)))
        if draw.random() < 0.2:
            case = case.but(overlap="two-batch")
        if draw.random() < 0.2:
            case = case.but(redundant_experts=8)
        if draw.random() < 0.3:
            case = case.but(prefill_tp=2 ** draw.randint(0, 3), prefill_instances=draw.choice((None, 1, 3)))
        return case
    return case
