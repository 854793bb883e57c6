"""A prediction at fixed concurrency by simulation, where memory, the token budget of a step or prompts bind.

The closed form (cost/closed_form.py) takes means of what is in memory and of what is prefilled together.  Where fewer
requests fit than are in flight, or a prompt is longer than a step may hold, or answers are so short that prompts take
most of the time, who waits for whom decides: the run of a load generator is then simulated, and its means take the
place of the closed form's.  Elsewhere the two agree, and the closed form answers at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.plan.answer import Answer
from flashstill.plan.kinds import usd_by_kind
from flashstill.plan.prediction import ENDS
from flashstill.plan.resolve import Resolved, resolve
from flashstill.simulate.answer import Simulation
from flashstill.simulate.policy import Policy
from flashstill.simulate.simulation import simulate
from flashstill.simulate.traffic import Traffic

MEAN_LENGTH, LEAST_RATIO = 0.9, 0.8
"""of lengths that vary as public benchmarks draw them: mean and least, over the nominal ones"""
OFTEN, PROMPTS_RULE = 0.1, 2.0
"""prompts of others for each decode step, and times of a step between two tokens, from which on prompts decide: the
closed form lets some of them delay both the first token and those after it, and is up to 40 % slow"""
STEADY_ROUNDS = 20
"""requests over those in flight where no burst is asked for: its part in the means is then small"""


def what_binds(resolved: Resolved, answer: Answer) -> str:
    """Why the closed form is an approximation here, in words; empty if nothing waits for memory or a step's budget."""
    asked = answer.scenario
    if answer.running is not None and answer.running < asked.batch - 0.05:
        return f"memory holds {answer.running:,.1f} of {asked.batch} requests"
    budget = asked.chunk or int(resolved.conditions.software.prefill_tokens)
    if asked.isl > budget:
        return f"a prompt of {asked.isl:,} tokens is prefilled in chunks of at most {budget:,}"
    others = (asked.batch / resolved.degrees.dp - 1.0) / max(asked.osl - 1.0, 1.0)
    drafted = resolved.setup.speculation.tokens_per_step if resolved.setup.speculation else 1.0
    step_s = (answer.decode_step_s or 0.0) / drafted
    if others >= OFTEN and answer.tpot_s is not None and answer.tpot_s > PROMPTS_RULE * step_s > 0.0:
        return f"prompts take {1.0 - step_s / answer.tpot_s:.0%} of the time between tokens"
    return ""


def simulated_answer(facts: Facts, answer: Answer, price: str) -> Answer:
    """The answer by simulation where something binds, else as it is; its note says which.

    Raises what `simulate` raises.
    """
    asked, used = answer.scenario, answer.deployment
    if asked.osl == 1 or used.has_prefill_pool:
        return _noted(answer, "in closed form: requests of one token, and pools of prefill, are not simulated here")
    try:
        resolved = resolve(facts, asked, used)
    except FlashstillError:  # chips with a model hard-wired into them have no layout
        return _noted(answer, "in closed form: not a machine that steps are simulated on")
    reason = what_binds(resolved, answer)
    if not reason:
        return _noted(answer, "in closed form, as neither memory nor the token budget of a step nor prompts bind")
    spread = asked.isl_cv > 0.0 or asked.osl_cv > 0.0
    varied = asked.cohort <= 1.0 and not spread
    nominal = MEAN_LENGTH if varied else 1.0
    rounds = max(round(1.0 / asked.burst_share), 1) if asked.burst_share > 0.0 else STEADY_ROUNDS
    traffic = Traffic(
        concurrency=asked.batch,
        requests=rounds * asked.batch,
        isl=max(round(asked.isl / nominal), 1),
        osl=max(round(asked.osl / nominal), 2),
        least_ratio=LEAST_RATIO if varied else 1.0,
        cached_ratio=asked.cached_ratio,
        isl_cv=asked.isl_cv,
        osl_cv=asked.osl_cv,
    )
    drafting = ("draft", "draft_tokens", "acceptance", "acceptance_decay", "measured_acceptance") if asked.draft else ()
    policy = Policy(step_tokens=asked.chunk, **{name: getattr(asked, name) for name in drafting})
    found = simulate(facts, asked.model, used, traffic, policy, price=price)
    return _with_means(answer, found, f"simulated ({traffic.requests:,} requests), as {reason}")


def _with_means(answer: Answer, found: Simulation, told: str) -> Answer:
    """The answer with the means of a simulation; rates follow by Little's law, and bands keep their width in logs."""
    asked, chips = answer.scenario, answer.deployment.chips
    assert chips is not None, "an answer's deployment is filled in"
    ttft, tpot = found.latencies["ttft_s"].mean_s, found.latencies["tpot_s"].mean_s
    stay = ttft + (asked.osl - 1) * tpot
    rate = asked.batch * asked.osl / stay
    waits = found.latencies["waiting_s"].mean_s
    joules = found.joules_per_output_token
    assert answer.output_tokens_per_s is not None
    slower = answer.output_tokens_per_s / rate
    changed: dict[str, Any] = {
        "ttft_s": ttft,
        "tpot_s": tpot,
        "output_tokens_per_s": rate,
        "joules_per_output_token": joules,
    }
    for name, value in list(changed.items()):
        before = getattr(answer, name)
        changed |= {end: value * getattr(answer, end) / before for end in ENDS[name]}
    usd = None if answer.usd_per_million_output_tokens is None else answer.usd_per_million_output_tokens * slower
    before = f"closed form: first token {answer.ttft_s:.3g} s, {answer.tpot_s:.3g} s per token"
    return _noted(
        replace(
            answer,
            **changed,
            watts_per_chip=joules * rate / chips,
            usd_per_million_output_tokens=usd,
            **usd_by_kind(asked, usd, *_shares(found)),
            running=asked.batch * (stay - waits) / stay,
        ),
        f"{told}; {before}",
    )


def _shares(found: Simulation) -> tuple[float, float]:
    """Shares of a run's dollars that computed and cached prompt tokens cause, 0 if no price is known."""
    price = found.usd_per_million or {}
    tokens = {"input": found.input_tokens - found.cached_tokens, "cached": found.cached_tokens}
    parts = {
        kind: (price.get(kind) or 0.0) * number for kind, number in (tokens | {"output": found.output_tokens}).items()
    }
    whole = sum(parts.values()) or 1.0
    return parts["input"] / whole, parts["cached"] / whole


def _noted(answer: Answer, text: str) -> Answer:
    return replace(answer, note="; ".join(part for part in (answer.note, text) if part))
