"""The public API: `import flashstill as fs`, and the names in `fs.__all__`.

Seconds, bytes, joules (at the chips, unless it says wall), watts, dollars and tokens throughout.  `predict` and
`explain` take keywords as the command line takes options; a list, tuple, range or array in place of a value sweeps over
it.  Answers are frozen; `as_dict()` is a tree of plain values, `as_records()` a list of flat rows for pandas.DataFrame
or polars.DataFrame, and a notebook shows a small table.

`run`, `distill` and `evaluate` are in flashstill/distilling.py and need torch (the extra "learn").

Errors are `BadInput` (and of its kind `MissingFact`, `UnsupportedArchitecture`) for what makes no sense, and
`InfeasiblePlan` where nothing fits, with the reasons counted.  In a sweep, a combination that fails is a row
with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from flashstill.asking import (
    Edits,
    FactsLike,
    asked_by_keywords,
    asked_by_values,
    facts_of,
    search_by_keywords,
    search_by_values,
)
from flashstill.errors import BadInput, FlashstillError, InfeasiblePlan, MissingFact, UnsupportedArchitecture
from flashstill.plan.answer import Answer, answers
from flashstill.plan.deployment import Deployment
from flashstill.plan.explain import Explanation
from flashstill.plan.explain import explain as explain_step
from flashstill.plan.scenario import Scenario
from flashstill.sweeps import Refusal, Sweep, each_or_error, outcomes_of

if TYPE_CHECKING:
    from typing import Unpack

    from flashstill.arch import Architecture
    from flashstill.asking import (
        DeploymentField,
        DeploymentFields,
        Ints,
        ServingField,
        ServingFields,
        Words,
    )
    from flashstill.hardware import Chip
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
PREDICTED = (
    "model", "chip", "chips", "tp", "pp", "batch", "isl", "osl", "tpot_s", "ttft_s", "output_tokens_per_s",
    "joules_per_output_token", "usd_per_million_output_tokens", "bound", "reason",
)  # fmt: skip
EXPLAINED = (
    "model", "chip", "chips", "batch", "context", "seconds", "joules_per_token_total", "joules_per_token_weights",
    "usd_per_million_tokens", "bound", "reason",
)  # fmt: skip
"""columns that a notebook shows of a sweep"""


def model(name: str) -> Architecture:
    """A model by a known name, a Hugging Face id of the catalogue, or the path of a config.json or model directory."""
    from flashstill.arch import load_architecture

    return load_architecture(str(name))


def chip(name: str, *, facts: FactsLike = (), set: Edits | None = None) -> Chip:
    """A chip by name, with its rates and energies from the fact rows. MissingFact names what it lacks."""
    from flashstill.hardware import chip_from_facts

    return chip_from_facts(facts_of(facts, set), name)


@overload
def predict(  # type: ignore[overload-overlap]  # a single value is no sequence, which the types cannot say
    scenario: Scenario, deployment: Deployment, *, price: str = ..., facts: FactsLike = ..., set: Edits | None = ...
) -> Answer: ...
@overload
def predict(  # type: ignore[overload-overlap]
    *, model: Model, chip: str, batch: int = ..., isl: int = ..., osl: int = ..., price: str = ...,
    facts: FactsLike = ..., set: Edits | None = ..., **more: Unpack[ServingField],
) -> Answer: ...  # fmt: skip
@overload
def predict(
    scenario: Scenario | Sequence[Scenario], deployment: Deployment | Sequence[Deployment], *, price: str = ...,
    facts: FactsLike = ..., set: Edits | None = ...,
) -> Sweep[Answer]: ...  # fmt: skip
@overload
def predict(
    *, model: Models, chip: Words, batch: Ints = ..., isl: Ints = ..., osl: Ints = ..., price: str = ...,
    facts: FactsLike = ..., set: Edits | None = ..., **more: Unpack[ServingFields],
) -> Sweep[Answer]: ...  # fmt: skip
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
    facts: FactsLike = (),
    set: Edits | None = None,
    **more: Any,
) -> Answer | Sweep[Answer]:
    """Time, energy and price of serving a model on chips.

    Either a `Scenario` and a `Deployment`, or their fields as keywords: `batch` requests in flight of `isl` prompt and
    `osl` output tokens [16, 1024, 1024]; and chips, tp, pp, ep, dp, topology, precision, kv_precision, weights_in,
    kv_in, engine, sampling, chunk, draft, draft_tokens, acceptance, max_ttft_s, max_tpot_s, min_tokens_per_s.

    price: the basis of all dollars: rented, owned or list.  facts: directories of more fact rows.  set: what-if edits,
    as {"h100-sxm.memory_bytes_per_s": 5e12}.
    Returns an `Answer` to one question, and a `Sweep` of answers where a keyword has several values.
    """
    keywords = {"model": model, "chip": chip, "isl": isl, "osl": osl, **more, "batch": batch}
    by_values = scenario is not None or deployment is not None
    asked = asked_by_values(scenario, deployment, keywords) if by_values else asked_by_keywords(keywords)
    outcomes = outcomes_of(asked.questions, answers(facts_of(facts, set), asked.cases, price), asked.swept)
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

    A `Scenario` of serving is explained at the mean context of its requests, isl + osl/2.  Other keywords are the
    fields of a `Deployment`; price, facts, set and sweeps as in `predict`.
    InfeasiblePlan where the whole batch does not fit at a time.
    """
    keywords = {"model": model, "chip": chip, **more, "context": context, "batch": batch}
    by_values = scenario is not None or deployment is not None
    if by_values:
        asked = asked_by_values(scenario, deployment, keywords)
    else:
        asked = asked_by_keywords({**keywords, "context": 1024 if context is None else context})
    table = facts_of(facts, set)
    steps = each_or_error(lambda case: explain_step(table, case.scenario, case.deployment, price), asked.cases)
    outcomes = outcomes_of(asked.questions, steps, asked.swept)
    return Sweep(outcomes, EXPLAINED) if asked.swept else _only(outcomes)


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

    Either a `Scenario`, whose batch does not count, and a `SearchSpace`; or their fields as keywords: isl, osl, draft,
    acceptance, max_ttft_s, max_tpot_s, min_tokens_per_s; precisions, kv_precisions, tiers, engine, draft_tokens.
    price, facts, set as in `predict`.  InfeasiblePlan where nothing keeps the bounds, with the reasons counted.
    """
    from flashstill.plan.search import search as search_space

    keywords = {"model": model, "chips": chips, "max_chips": max_chips, "batches": batches, **more}
    by_values = scenario is not None or space is not None
    asked = search_by_values(scenario, space, keywords) if by_values else search_by_keywords(keywords)
    return search_space(facts_of(facts, set), *asked, price)


def _only(outcomes: tuple[Any, ...]) -> Any:
    (answer,) = outcomes
    return answer
