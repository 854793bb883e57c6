"""The public API: `import flashstill as fs`, and the names in `fs.__all__`.

Units are seconds, bytes, joules (drawn by the chips, unless the name says wall), watts, dollars and tokens.  Keywords
of `predict` and `explain` match the command-line options; a list, tuple, range or array as a value makes a sweep.
Results are frozen: `as_dict()` gives nested plain values, `as_records()` a list of flat rows for pandas.DataFrame or
polars.DataFrame, and print() and notebooks show a small table.

`run` and `distill` are in flashstill/distilling.py, `evaluate` in evaluating.py; they need torch (the extra "learn").

Errors: `BadInput` (with its subclasses `MissingFact` and `UnsupportedArchitecture`) for invalid input, and
`InfeasiblePlan`, with counted reasons, if no configuration fits.  In a sweep, a combination that fails becomes a row
with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from flashstill.asking import (
    Edits,
    FactsLike,
    asked_by_keywords,
    asked_by_values,
    check_step_keywords,
    facts_of,
    search_by_keywords,
    search_by_values,
)
from flashstill.calls import refuses_other_keywords
from flashstill.errors import (
    BadInput,
    FlashstillError,
    InfeasiblePlan,
    MissingFact,
    UnsupportedArchitecture,
)
from flashstill.plan.answer import PREDICTED, Answer, answers
from flashstill.plan.deployment import Deployment
from flashstill.plan.explain import EXPLAINED, Explanation
from flashstill.plan.explained import explanations
from flashstill.plan.scenario import Scenario
from flashstill.sweeps import Refusal, Sweep, outcomes_of

if TYPE_CHECKING:
    from typing import Unpack

    from flashstill.arch import Architecture
    from flashstill.hardware import Chip
    from flashstill.keywords import DeploymentField, DeploymentFields, Ints, ServingField, ServingFields, Words
    from flashstill.plan.space import SearchResult, SearchSpace

    Model = str | Architecture
    Models = Model | Sequence[Model]

__all__ = [
    "Answer",
    "BadInput",
    "Deployment",
    "Explanation",
    "FlashstillError",
    "InfeasiblePlan",
    "MissingFact",
    "Refusal",
    "Scenario",
    "Sweep",
    "UnsupportedArchitecture",
    "chip",
    "explain",
    "model",
    "predict",
    "search",
]


@refuses_other_keywords
def model(name: str | Path | Mapping[str, Any]) -> Architecture:
    """An architecture by catalogue name, catalogued Hugging Face id, path of a config.json or model directory, or the
    content of a config.json; of one's own, it is called by its `_name_or_path`, else its `model_type`."""
    from flashstill.arch import architecture_of, load_architecture

    return architecture_of(name) if isinstance(name, Mapping) else load_architecture(str(name))


@refuses_other_keywords
def chip(name: str, *, facts: FactsLike = (), set: Edits | None = None) -> Chip:
    """A chip by name, with its rates and energies from the fact rows. MissingFact lists the rows it lacks."""
    from flashstill.hardware import chip_from_facts

    return chip_from_facts(facts_of(facts, set, name), name)


@overload
def predict(  # type: ignore[overload-overlap]  # a single value is no sequence, which the types cannot say
    scenario: Scenario,
    deployment: Deployment,
    *,
    price: str = ...,
    simulated: bool = ...,
    facts: FactsLike = ...,
    set: Edits | None = ...,
) -> Answer: ...
@overload
def predict(  # type: ignore[overload-overlap]
    *, model: Model, chip: str, batch: int = ..., isl: int = ..., osl: int = ..., price: str = ...,
    simulated: bool = ..., facts: FactsLike = ..., set: Edits | None = ..., **more: Unpack[ServingField],
) -> Answer: ...  # fmt: skip
@overload
def predict(
    scenario: Scenario | Sequence[Scenario], deployment: Deployment | Sequence[Deployment], *, price: str = ...,
    simulated: bool = ..., facts: FactsLike = ..., set: Edits | None = ...,
) -> Sweep[Answer]: ...  # fmt: skip
@overload
def predict(
    *, model: Models, chip: Words, batch: Ints = ..., isl: Ints = ..., osl: Ints = ..., price: str = ...,
    simulated: bool = ..., facts: FactsLike = ..., set: Edits | None = ..., **more: Unpack[ServingFields],
) -> Sweep[Answer]: ...  # fmt: skip
@refuses_other_keywords
def predict(
    scenario: Scenario | Sequence[Scenario] | None = None,
    deployment: Deployment | Sequence[Deployment] | None = None,
    *,
    model: Models | None = None,
    chip: Words = None,
    batch: Ints = None,
    isl: Ints = None,
    osl: Ints = None,
    price: str = "rented",
    simulated: bool = False,
    facts: FactsLike = (),
    set: Edits | None = None,
    **more: Any,
) -> Answer | Sweep[Answer]:
    """Time, energy and price of serving a model on chips.

    Give a `Scenario` and a `Deployment`, or their fields as keywords: `batch` concurrent requests, each with `isl`
    prompt and `osl` output tokens [16, 1024, 1024]; chips, tp, pp, ep, dp, redundant_experts, topology, precision,
    kv_precision, weights_in, kv_in, engine, sampling, overlap, chunk, batching_steps, burst_share, cohort,
    cached_ratio, isl_cv, osl_cv, draft, draft_tokens, acceptance, acceptance_decay, measured_acceptance,
    max_ttft_s, max_tpot_s, min_tokens_per_s.

    price: basis of all dollar figures: rented, owned or list.  facts: directories with additional fact rows.  set:
    what-if edits, such as {"h100-sxm.memory_bytes_per_s": 5e12}.
    simulated: where memory, a step's token budget or prompts bind, simulate the requests; `note` says whether it did.
    Returns an `Answer`, or a `Sweep` of answers if any keyword has several values.
    """
    keywords = {"model": model, "chip": chip, "isl": isl, "osl": osl, **more, "batch": batch}
    by_values = scenario is not None or deployment is not None
    asked = asked_by_values(scenario, deployment, keywords) if by_values else asked_by_keywords(keywords)
    table = facts_of(facts, set, [case.deployment.chip for case in asked.cases])
    found = answers(table, asked.cases, price)
    if simulated:
        from flashstill.in_flight import simulated_answer

        found = [simulated_answer(table, one, price) if isinstance(one, Answer) else one for one in found]
    outcomes = outcomes_of(asked.question, found, asked.swept)
    return Sweep(outcomes, PREDICTED) if asked.swept else _only(outcomes)


@overload
def explain(  # type: ignore[overload-overlap]
    scenario: Scenario, deployment: Deployment, *, price: str = ..., facts: FactsLike = ..., set: Edits | None = ...
) -> Explanation: ...
@overload
def explain(  # type: ignore[overload-overlap]
    *, model: Model, chip: str, batch: int = ..., context: int = ..., price: str = ..., facts: FactsLike = ...,
    set: Edits | None = ..., **more: Unpack[DeploymentField],
) -> Explanation: ...  # fmt: skip
@overload
def explain(
    scenario: Scenario | Sequence[Scenario], deployment: Deployment | Sequence[Deployment], *, price: str = ...,
    facts: FactsLike = ..., set: Edits | None = ...,
) -> Sweep[Explanation]: ...  # fmt: skip
@overload
def explain(
    *, model: Models, chip: Words, batch: Ints = ..., context: Ints = ..., price: str = ..., facts: FactsLike = ...,
    set: Edits | None = ..., **more: Unpack[DeploymentFields],
) -> Sweep[Explanation]: ...  # fmt: skip
@refuses_other_keywords
def explain(
    scenario: Scenario | Sequence[Scenario] | None = None,
    deployment: Deployment | Sequence[Deployment] | None = None,
    *,
    model: Models | None = None,
    chip: Words = None,
    batch: Ints = None,
    context: Ints = None,
    price: str = "rented",
    facts: FactsLike = (),
    set: Edits | None = None,
    **more: Any,
) -> Explanation | Sweep[Explanation]:
    """Where the seconds and joules of one decode step go: `batch` sequences with `context` tokens cached [16, 1024].

    A serving `Scenario` is evaluated at the mean context of its requests, isl + osl/2.  Other keywords are the fields
    of a `Deployment`; price, facts, set and sweeps work as in `predict`.
    Raises InfeasiblePlan if the whole batch does not fit into memory at once.
    """
    keywords = {"model": model, "chip": chip, **more, "context": context, "batch": batch}
    by_values = scenario is not None or deployment is not None
    if by_values:
        asked = asked_by_values(scenario, deployment, keywords)
    else:
        check_step_keywords(more)
        asked = asked_by_keywords({**keywords, "context": 1024 if context is None else context})
    table = facts_of(facts, set, [case.deployment.chip for case in asked.cases])
    steps = explanations(table, asked.cases, price)
    outcomes = outcomes_of(asked.question, steps, asked.swept)
    return Sweep(outcomes, EXPLAINED) if asked.swept else _only(outcomes)


@refuses_other_keywords
def search(
    scenario: Scenario | None = None,
    space: SearchSpace | None = None,
    *,
    model: Model | None = None,
    chips: str | Sequence[str] = (),
    max_chips: int | None = None,
    batches: Ints = None,
    price: str = "rented",
    facts: FactsLike = (),
    set: Edits | None = None,
    **more: Any,
) -> SearchResult:
    """The Pareto front of configurations in time per token, tokens/s per chip, joules and dollars per token.

    Give a `Scenario` (its batch is ignored) and a `SearchSpace`, or their fields as keywords: isl, osl, batching_steps,
    burst_share, cohort, cached_ratio, isl_cv, osl_cv, draft, acceptance, acceptance_decay, measured_acceptance,
    max_ttft_s, max_tpot_s, min_tokens_per_s; precisions, kv_precisions, tiers, engine, draft_tokens, redundant_experts,
    overlaps.
    price, facts and set work as in `predict`.  Raises InfeasiblePlan, with counted reasons, if none meets the limits.
    """
    from flashstill.plan.crossover import crossovers
    from flashstill.plan.search import search as search_space
    from flashstill.plan.space import normalised

    keywords = {"model": model, "chips": chips, "max_chips": max_chips, "batches": batches, **more}
    by_values = scenario is not None or space is not None
    asked = search_by_values(scenario, space, keywords) if by_values else search_by_keywords(keywords)
    table = facts_of(facts, set, asked[1].chips)
    found = search_space(table, *asked, price)
    return replace(found, weights_dominate_below=crossovers(table, asked[0], normalised(table, asked[1])))


def _only(outcomes: tuple[Any, ...]) -> Any:
    (answer,) = outcomes
    return answer
