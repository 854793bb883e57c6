"""Layouts that a replica may have, and what each can sustain by the closed form of simulate/capacity.py.

All layouts of a kind of chip and a format are priced in one call, at a few numbers of decoding sequences.  That ranks
them; the best get step tables of their own (candidates.py), and the best of these are simulated (trials.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost import Conditions
from flashstill.cost.footprint import held_tokens, most_sequences
from flashstill.cost.phases import batch_step
from flashstill.economics import HourlyPrice, hourly_price
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.layouts import Degrees, layout_of
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.scenario import Scenario
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.setup import Setup, make_setup
from flashstill.simulate.capacity import Mix, lumps_of, mean_step_s
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import is_prefill_first, most_pass_tokens, most_running
from flashstill.simulate.state import Values
from flashstill.simulate.tables import extra_cost

NO_PRICE, NO_LINKS = "no price is known", "the chip lacks links between so many"
MOST_CHIPS = 2**16
"""of a replica over any network: the search for a layout that holds the longest request ends somewhere"""
LARGEST_BY_ITSELF = 16
"""most chips of a replica where nobody says: two nodes of eight; more where one request needs more"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What a replica may be made of: chips, most chips of one replica (None: as many as LARGEST_BY_ITSELF, or as one
    request needs), formats of the weights and the cache, engine, settings of its scheduler, basis of the prices, and
    whether prefill may have replicas of its own."""

    chips: tuple[str, ...]
    max_chips: int | None
    precisions: tuple[str, ...]
    kv_precisions: tuple[str | None, ...]
    engine: str | None
    policy: Policy
    price: str
    disaggregated: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """All L layouts of one kind of chip in one format, at B numbers of decoding sequences.

    batches [L, B]: up to what memory holds; decode_s [L, B]: a step without prompts; step_s [L, B]: with its share of
    them, nan beyond the budget of tokens; requests_per_s [L, B]; prompt_s [L]: the least seconds that a prompt token
    takes; first_s [L]: prefill of the asked prompt on an idle replica; usd_per_hour [L]: of one replica.
    """

    deployment: Deployment
    setup: Setup
    paid: HourlyPrice
    layouts: tuple[Degrees, ...]
    batches: Values
    decode_s: Values
    step_s: Values
    requests_per_s: Values
    prompt_s: Values
    first_s: Values
    usd_per_hour: Values

    def rates(self, tpot_s: float | None) -> Values:
        """Best requests per second of each layout whose mean step keeps a bound; 0 where none does. [L]"""
        allowed = np.isfinite(self.step_s) & (self.step_s <= (np.inf if tpot_s is None else tpot_s))
        best: Values = np.max(np.where(allowed, self.requests_per_s, 0.0), axis=1)
        return best

    def token_s(self, tpot_s: float | None) -> Values:
        """Least seconds of a replica for one decoded token, of steps of at most `tpot_s`; infinite where none is. [L]

        Steps are linear between the batches that are priced.
        """
        bound = np.inf if tpot_s is None else tpot_s
        after = np.minimum(np.argmax(self.decode_s > bound, axis=1), self.decode_s.shape[1] - 1)
        rows = np.arange(len(self.layouts))
        before = np.maximum(after - 1, 0)
        low_s, high_s = self.decode_s[rows, before], self.decode_s[rows, after]
        low, high = self.batches[rows, before], self.batches[rows, after]
        share = np.clip((bound - low_s) / np.maximum(high_s - low_s, 1e-30), 0.0, 1.0)
        between = low + share * (high - low)
        crossing = np.where((low_s <= bound) & (high_s > bound), bound / np.maximum(between, 1e-30), np.inf)
        inside = np.min(np.where(self.decode_s <= bound, self.decode_s / self.batches, np.inf), axis=1)
        least: Values = np.minimum(crossing, inside)
        return least

    def deployment_of(self, at: int) -> Deployment:
        """The deployment of one layout."""
        degrees = self.layouts[at]
        return replace(self.deployment, chips=degrees.chips, **degrees._asdict())


def kinds_of(
    facts: Facts, model: Architecture, choices: Choices, mix: Mix, prompt: float, longest: int, reasons: Counter[str]
) -> list[Kind]:
    """Every kind of chip and format, priced; what is impossible is counted by its reason.

    prompt: tokens of the prompt whose prefill `first_s` is.  longest: tokens of the longest request, which must fit.
    """
    kinds = []
    for chip in dict.fromkeys(facts.machine(name).name for name in choices.chips):
        paid = hourly_price(facts, chip, choices.price)
        if paid.usd_per_hour is None:
            reasons[NO_PRICE] += 1
            continue
        for precision in choices.precisions:
            for kv in choices.kv_precisions:
                deployment = Deployment(chip=chip, precision=precision, kv_precision=kv, engine=choices.engine)
                setup = make_setup(facts, Scenario(model=model), deployment)
                kind = _kind(facts, deployment, setup, choices, paid, mix, prompt, longest, reasons)
                if kind is not None:
                    kinds.append(kind)
    return kinds


def _kind(
    facts: Facts,
    deployment: Deployment,
    setup: Setup,
    choices: Choices,
    paid: HourlyPrice,
    mix: Mix,
    prompt: float,
    longest: int,
    reasons: Counter[str],
) -> Kind | None:
    model, conditions = setup.model, setup.conditions
    layouts = _layouts(model, conditions, choices.max_chips, longest, reasons)
    if not layouts:
        return None
    layout = layout_of(np.array(layouts, dtype=np.float64).T[:, :, None])
    held = held_tokens(conditions, mix.context, mix.whole)
    room = np.asarray(most_sequences(model, conditions, layout, held))
    most = most_running(facts, conditions, choices.policy)
    batches = np.minimum(np.unique(np.round(2.0 ** np.arange(0.0, np.log2(most) + 0.25, 0.25)))[None, :], room)
    batches = np.maximum(np.minimum(batches, most), 1.0)
    budget = np.asarray(layout.pp) * float(most_pass_tokens(conditions, choices.policy))  # of a step, (layouts, 1)
    alone = is_prefill_first(conditions, choices.policy)
    decode_s = np.asarray(batch_step(model, conditions, layout, batches, mix.context).seconds)

    def extra_s(beside: Values, tokens: Values, attended: float) -> Values:
        seconds, _ = extra_cost(model, conditions, layout, beside, tokens, attended, mix.context, budget)
        return np.broadcast_to(seconds, (len(layouts), max(np.shape(beside)[-1], np.shape(tokens)[-1])))

    none = np.zeros((1, 1))
    if mix.decoded > 0.0:
        lumps = lumps_of(mix, budget, alone, batches)
        step_s = mean_step_s(lumps, decode_s, extra_s(none if alone else batches, lumps.tokens, mix.attended))
        step_s = np.where((not alone) & (lumps.ends * mix.prefilled > lumps.room), np.nan, step_s)
        rate = lumps.ends / step_s
    else:
        whole_s = extra_s(none, budget, mix.attended)
        step_s, rate = np.zeros_like(batches), budget / mix.prefilled / whole_s * np.ones_like(batches)
    sizes = np.minimum(2.0 ** np.arange(4, 20, 2), budget)
    alone_s, beside_s = extra_s(none, sizes, mix.attended), extra_s(batches[:, -1:], sizes, mix.attended)
    passes = np.ceil(prompt / budget)
    assert paid.usd_per_hour is not None, "kinds without a price are counted among the reasons"
    return Kind(
        deployment=deployment,
        setup=setup,
        paid=paid,
        layouts=tuple(layouts),
        batches=batches,
        decode_s=decode_s,
        step_s=step_s,
        requests_per_s=np.nan_to_num(rate),
        prompt_s=np.min(np.minimum(alone_s, beside_s) / sizes, axis=1),
        first_s=(passes * extra_s(none, prompt / passes, prompt / 2.0))[:, 0] + conditions.software.first_token_s,
        usd_per_hour=np.array([each.chips for each in layouts]) * paid.usd_per_hour,
    )


def _layouts(
    model: Architecture, conditions: Conditions, asked: int | None, longest: int, reasons: Counter[str]
) -> list[Degrees]:
    """Layouts in powers of two whose memory holds the longest request, experts split or spread over the whole stage."""
    chip = conditions.chip
    joined = MOST_CHIPS if chip.system.scale_out_bytes_per_s else chip.system.domain_chips
    joined = joined if chip.topology.link_bytes_per_s else 1
    most = asked or LARGEST_BY_ITSELF
    while True:
        possible, refused = layouts_of(model, most)
        possible = [each for each in possible if each.ep in (1, each.tp * each.dp)]
        near = [each for each in possible if each.chips <= joined]
        fits = np.zeros(0, dtype=bool)
        if near:
            layout = layout_of(np.array(near, dtype=np.float64).T)
            fits = np.asarray(most_sequences(model, conditions, layout, float(longest))) >= layout.dp
        if fits.any() or asked or most >= joined:
            break
        most *= 2
    reasons.update(refused)
    for reason, count in ((NO_LINKS, len(possible) - len(near)), (NOT_FITTING, int((~fits).sum()))):
        if count:
            reasons[reason] += count
    return [each for each, fit in zip(near, fits, strict=True) if fit]


def check_kinds(kinds: Sequence[Any], model: Architecture, reasons: Counter[str]) -> None:
    """BadInput where no chip has a price, InfeasiblePlan where no layout is possible."""
    if kinds:
        return
    if set(reasons) == {NO_PRICE}:
        raise BadInput(
            "no price is known of any of these chips, so that no fleet is the cheapest; give one with"
            " --set NAME.usd_per_hour=2"
        )
    raise InfeasiblePlan(f"no layout of these chips holds {model.name} and its longest request", dict(reasons))
