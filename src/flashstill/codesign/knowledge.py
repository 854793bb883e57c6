"""Retrieve or store: a fact in the parameters is paid for with every token, a fact in an index when it is asked for.

    p   parameters that hold a token of text = bits per token / bits per parameter
    e   joules (dollars) of one parameter per token that the model decodes: weights moved and multiplied, by parameter
    R   joules (dollars) of a question to the cascade, for what its last stage reads

    stored      p e              a served token, for each token of text that the parameters hold
    retrieved   R / tokens read  a token of text, when a question is asked
    taught      exposures x FLOPs of training on a token / (peak x MFU)   chip-seconds, at the limit of its power, once
    equal       at one use in  (R / tokens read) / (p e)  served tokens

Experts that a token does not use are parameters too: knowledge is taken to be spread over all.  Teaching is left out of
the two crossings, as it is paid for once: `questions_taught` says how many questions about an item it would pay for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from flashstill.arch import load_architecture
from flashstill.codesign.cascade import Total
from flashstill.codesign.rent import busy_usd, rent_of
from flashstill.cost.phases import batch_step
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.scenario import Scenario
from flashstill.workload.training import model_flops

BATCHES = (1, 16, 256)
CONTEXT = 1024
"""tokens of context of a decode step, or half of what the model was made for"""
MOVED = ("arithmetic", "near_sram", "weights")
"""levels of energy that a parameter causes"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """Parameters against retrieval at one batch of the model that would hold the text.

    *_retrieved: a token of text that the last stage reads.  *_stored: the parameters of a token, per served token.
    uses_*: served tokens between two uses at which both cost the same; used more often, store it.
    item_uses_*: the same where a question is asked for one item of those that are read.
    corpus_parameters: that would hold the whole corpus.  corpus_*: what they cost a served token.
    taught_*: training that puts a token of text into the parameters.  questions_taught_*: in questions, for an item.
    """

    model: str
    chip: str
    batch: int
    parameters_per_token: float
    joules_retrieved: float
    usd_retrieved: float
    joules_stored: float
    usd_stored: float
    uses_joules: float
    uses_usd: float
    item_uses_joules: float
    item_uses_usd: float
    corpus_parameters: float
    corpus_joules: float
    corpus_usd: float
    taught_joules: float
    taught_usd: float
    questions_taught_joules: float
    questions_taught_usd: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def stored_or_retrieved(
    facts: Facts, total: Total, model: str, chip: str, precision: str | None, corpus: float, item: float, basis: str
) -> list[Stored]:
    """Both ways for each of BATCHES. corpus, item: tokens of the corpus and of one item."""
    shape = load_architecture(model)
    context = min(CONTEXT, shape.context // 2)
    per_token = facts.value("knowledge", "bits_per_token") / facts.value("knowledge", "bits_per_parameter")
    read = total.stages[-1].items_in * item
    found = []
    for batch in BATCHES:
        scenario = Scenario(model=shape, isl=context - 1, osl=2, batch=batch)
        resolved = resolve(facts, scenario, Deployment(chip=chip, precision=precision))
        rent = rent_of(facts, resolved.chip, basis)
        step = batch_step(resolved.model, resolved.conditions, resolved.layout, float(batch), float(context))
        moved = sum(float(step.joules[level]) for level in MOVED)
        each = moved / batch / resolved.model.parameters * rent.wall_ratio
        dollars = float(busy_usd(rent, resolved.chips, float(step.seconds), float(step.total_joules)))
        per_parameter = dollars / batch / resolved.model.parameters
        joules, usd = per_token * each, per_token * per_parameter
        taught_s = _taught_seconds(facts, resolved, float(context))
        taught = taught_s * resolved.chip.power_limit_w
        taught_usd = float(busy_usd(rent, 1.0, taught_s, taught))
        found.append(
            Stored(
                model=resolved.model.name,
                chip=resolved.chip.name,
                batch=batch,
                parameters_per_token=per_token,
                joules_retrieved=total.joules / read,
                usd_retrieved=total.usd / read,
                joules_stored=joules,
                usd_stored=usd,
                uses_joules=total.joules / read / joules,
                uses_usd=total.usd / read / usd,
                item_uses_joules=total.joules / (item * joules),
                item_uses_usd=total.usd / (item * usd),
                corpus_parameters=corpus * per_token,
                corpus_joules=corpus * joules,
                corpus_usd=corpus * usd,
                taught_joules=taught * rent.wall_ratio,
                taught_usd=taught_usd,
                questions_taught_joules=taught * rent.wall_ratio * item / total.joules,
                questions_taught_usd=taught_usd * item / total.usd,
            )
        )
    return found


def _taught_seconds(facts: Facts, resolved: Resolved, length: float) -> float:
    """Chip-seconds of training that put one token of text into the parameters."""
    flops = float(model_flops(resolved.model, 1.0, length)) / length
    chip = resolved.chip
    rate = chip.flops_per_s[chip.precision("bf16")] * facts.value("training", "mfu_ratio")
    return facts.value("knowledge", "exposures") * flops / rate
