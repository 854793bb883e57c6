"""Turn keyword arguments into scenarios and deployments; each keyword is one value, or several to sweep over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from flashstill.calls import check_kind, plain_value
from flashstill.errors import BadInput, nearest, shown, unknown
from flashstill.facts import Facts, load
from flashstill.hardware.idle_edits import check_edits
from flashstill.plan.answer import question_of
from flashstill.plan.case import Case
from flashstill.plan.deployment import Deployment
from flashstill.plan.drafts import OF_DRAFTS, given_rates
from flashstill.plan.scenario import Scenario
from flashstill.sweeps import combinations, several

if TYPE_CHECKING:
    from flashstill.plan.space import SearchSpace

FactsLike = Facts | str | Path | Iterable[str | Path]
"""directories with additional fact rows, or an already loaded fact table"""
Edits = Mapping[str, float | str]
"""what-if edits such as {"h100-sxm.memory_bytes_per_s": 5e12}; a string may carry a unit, such as "5TB/s" """


class Asked(NamedTuple):
    """Cases in order; `swept` is whether the call is a sweep."""

    cases: list[Case]
    swept: bool

    def question(self, place: int) -> dict[str, Any]:
        """The input fields of the case at a place, for its row where it has no answer."""
        return question_of(*self.cases[place])


OF_ALL, CONCURRENCY = ("price", "facts", "set"), "concurrency"
"""keywords that are no fields; what files of cases and the command line call the number of requests in flight"""
_SCENARIO = frozenset(field.name for field in fields(Scenario))
_DEPLOYMENT = frozenset(field.name for field in fields(Deployment))


def asked_by_values(scenario: Any, deployment: Any, keywords: Mapping[str, Any]) -> Asked:
    """Every scenario combined with every deployment; each argument may be one value or several."""
    for name, value in keywords.items():
        if value is not None:
            raise BadInput(f"{name} is a field of the Scenario or the Deployment, where these are given: name it there")
    if scenario is None or deployment is None:
        raise BadInput("give a Scenario and a Deployment, or model= and chip=")
    chosen, swept = combinations({"scenario": scenario, "deployment": deployment})
    for pair in chosen:
        if not isinstance(pair["scenario"], Scenario) or not isinstance(pair["deployment"], Deployment):
            raise BadInput(
                "the first argument is a Scenario, the second a Deployment; or use keywords, model= and chip="
            )
    return Asked([Case(_checked(pair["scenario"]), _checked(pair["deployment"])) for pair in chosen], swept)


def asked_by_keywords(keywords: Mapping[str, Any]) -> Asked:
    """Every combination of the values; a keyword that is None is not given. BadInput for an unknown keyword."""
    for name in keywords:
        if name not in _KINDS:
            raise BadInput(_unknown_keyword(name, _SCENARIO | _DEPLOYMENT, "batch"))
    for name in ("model", "chip"):
        if keywords.get(name) is None:
            raise BadInput(f"give {name}=, or a Scenario and a Deployment")
    given = {name: value for name, value in keywords.items() if value is not None}
    chosen, swept = combinations(given)
    chosen = [{name: of_kind(name, value, _KINDS[name]) for name, value in values.items()} for values in chosen]
    if not _in_full(keywords):
        drafts = _drafts(given)
        chosen = [given_rates(values, drafts) for values in chosen]
    return Asked(
        [
            Case(
                Scenario(**{name: value for name, value in values.items() if name in _SCENARIO}),
                Deployment(**{name: value for name, value in values.items() if name in _DEPLOYMENT}),
            )
            for values in chosen
        ],
        swept,
    )


def check_step_keywords(keywords: Mapping[str, Any]) -> None:
    """BadInput for a field of serving requests, of which a single decode step knows nothing."""
    for name, value in keywords.items():
        if value is not None and name in _SCENARIO - {"draft"}:
            raise BadInput(f"{name} is of serving requests; a decode step has a batch and a context, so ask predict")


def _unknown_keyword(name: str, known: Iterable[str], in_flight: str) -> str:
    """One sentence for an unknown keyword, with the nearest that are known. in_flight: what `concurrency` is called."""
    choices = (*known, *OF_ALL)
    if nearest(name, (*choices, CONCURRENCY), 1) == [CONCURRENCY]:
        return f"unknown keyword {shown(name)}; the number of requests in flight is {in_flight}"
    return unknown("keyword", name, choices)


_KINDS = {field.name: str(field.type) for field in (*fields(Scenario), *fields(Deployment))}


def of_kind(name: str, value: Any, kind: str) -> Any:
    """The value; BadInput for text in place of a number or the reverse. 16.0 becomes 16, as float arrays hold it.

    kind: the field's type annotation as text; every entry of a tuple is checked.
    """
    if kind.startswith("tuple["):
        if not (values := several(value)):
            raise BadInput(f"{name} is empty; give at least one value")
        return tuple(of_kind(name, each, kind.removeprefix("tuple[").partition(",")[0]) for each in values)
    value = plain_value(value)
    if name == "model":
        return _known_model(value)
    check_kind(name, value, kind)
    return int(value) if kind.startswith("int") and isinstance(value, float) else value


def _known_model(model: Any) -> Any:
    from flashstill.arch import Architecture

    if not isinstance(model, str | Path | Architecture):
        raise BadInput(f"model is {shown(model)}, not a name, a path or what flashstill.model returns")
    return str(model) if isinstance(model, Path) else model


T = TypeVar("T", Scenario, Deployment, "SearchSpace")


def _checked(asked: T) -> T:
    """The same scenario, deployment or space with the type of every field checked."""
    return type(asked)(
        **{field.name: of_kind(field.name, getattr(asked, field.name), str(field.type)) for field in fields(asked)}
    )


def search_by_values(scenario: Any, space: Any, keywords: Mapping[str, Any]) -> tuple[Scenario, SearchSpace]:
    """Check that a scenario and a search space were given; BadInput for other types or additional keywords."""
    from flashstill.plan.space import SearchSpace

    for name in _given(keywords):
        raise BadInput(f"{name} is a field of the Scenario or the SearchSpace, where these are given: name it there")
    if not isinstance(scenario, Scenario) or not isinstance(space, SearchSpace):
        raise BadInput("give a Scenario and a SearchSpace, or model=, chips= and max_chips=")
    return _checked(scenario), _checked(space)


def search_by_keywords(keywords: Mapping[str, Any]) -> tuple[Scenario, SearchSpace]:
    """Build a scenario and a search space from keywords; BadInput for a missing or unknown keyword."""
    from flashstill.plan.space import SearchSpace

    given = _given(keywords)
    of_space = {field.name for field in fields(SearchSpace)}
    of_scenario = _SCENARIO - {"batch", "context", "chunk"} - of_space
    for name in given:
        if name not in of_space | of_scenario:
            raise BadInput(_unknown_keyword(name, of_space | of_scenario, "batches"))
    for name in ("model", "chips", "max_chips"):
        if name not in given:
            raise BadInput(f"a search needs {name}=, or a Scenario and a SearchSpace")
    if not _in_full(keywords):
        given = given_rates(given, _drafts(given))
    scenario = Scenario(**{name: value for name, value in given.items() if name in of_scenario})
    return _checked(scenario), _checked(SearchSpace(**{name: given[name] for name in of_space & set(given)}))


def _in_full(keywords: Mapping[str, Any]) -> bool:
    """Whether every field of drafts is named, None as well, as in the question of an answer or the fields of a
    scenario: it holds defaults that nobody gave, and asks again what it says."""
    return keywords.keys() >= {*OF_DRAFTS}


def _drafts(given: Mapping[str, Any]) -> bool:
    """Whether anything drafts in one of the combinations."""
    return any(plain_value(draft) is not None for draft in several(given.get("draft")) or ())


def _given(keywords: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keywords.items() if value is not None and (name, value) != ("chips", ())}


def facts_of(facts: FactsLike = (), edits: Edits | None = None, chips: Sequence[str | None] | str = ()) -> Facts:
    """Fact rows of the package, this machine and the given directories, with what-if edits applied.

    chips: those that are asked about, if they are known.
    Raises BadInput for values of another kind, for rows or edits that cannot be, and for edits of other chips.
    """
    table = _table_of(facts, texts_of(edits))
    check_asked_edits(table, facts, [chips] if isinstance(chips, str) else chips)
    return table


def check_asked_edits(table: Facts, facts: FactsLike, chips: Iterable[str | None]) -> None:
    """BadInput for an edit of other chips than those that are asked about, among those of `set`: what a Facts came
    with may be of any.

    table: the rows with all edits.  facts: what they were made of.
    """
    before = facts.edits if isinstance(facts, Facts) else ()
    check_edits(table, table.edits[len(before) :], chips)


def _table_of(facts: FactsLike, texts: list[str]) -> Facts:
    if isinstance(facts, Facts):
        return facts.edited(texts)
    directories = [facts] if isinstance(facts, str | Path) else list(facts) if isinstance(facts, Iterable) else [facts]
    for each in directories:
        if not isinstance(each, str | Path):
            raise BadInput(f"facts is a directory, several, or what flashstill.facts.load returns, not {shown(each)}")
    return load([Path(directory) for directory in directories], texts)


def texts_of(edits: Edits | None) -> list[str]:
    """Edits as the texts of `--set`. BadInput for what is no mapping, or holds neither numbers nor texts."""
    if not isinstance(edits, Mapping | None):
        raise BadInput(f'set is a mapping, as {{"h100-sxm.memory_bytes_per_s": 5e12}}, not {shown(edits)}')
    for name, value in (edits or {}).items():
        plain = plain_value(value)
        if isinstance(plain, bool) or not isinstance(plain, str | int | float):
            raise BadInput(f"set: {shown(name)} is {shown(value)}, neither a number nor a text with a unit")
    return [f"{name}={each if isinstance(each, str) else repr(float(each))}" for name, each in (edits or {}).items()]
