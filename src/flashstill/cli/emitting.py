"""plan --emit: the commands or the manifest that start an engine in a configuration that was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flashstill.cli.lists import words
from flashstill.cli.options import WORD, given_options
from flashstill.errors import BadInput

if TYPE_CHECKING:
    from flashstill.facts import Facts
    from flashstill.plan.scenario import Scenario
    from flashstill.plan.space import Configuration, SearchResult, SearchSpace

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class Emission:
    """form: of a manifest, as "compose", or empty for commands; source: the model that the engine loads; pick: by which
    objective the configuration is chosen; image: of a manifest's containers, None for that of the engine's version."""

    form: str
    engine: str
    source: str
    pick: str
    image: str | None


def emission_options(command: _F) -> _F:
    """Add --emit, --image and --pick."""
    command = click.option(
        "--pick", type=WORD, default="dollars", show_default=True,
        help="Point to emit: tpot, throughput, joules, dollars.",
    )(command)  # fmt: skip
    command = click.option(
        "--image", default=None, help="Container image of a manifest [default: of the engine's version]."
    )(command)
    return click.option(
        "--emit", type=WORD, default=None,
        help="Print what starts an engine: commands (vllm, sglang, trtllm), or compose:vllm, kubernetes:sglang and"
        " so on.",
    )(command)  # fmt: skip


def emission_of(facts: Facts, model: str, asked: Mapping[str, Any]) -> Emission | None:
    """What the options ask to emit; None without --emit. asked: the options of `plan`.

    Raises BadInput for options that have no effect, and for a model, chips or heads that the engine cannot start.
    """
    from flashstill.plan.drafts import NEW_HEADS, drafter
    from flashstill.plan.engines import check_engine, model_source
    from flashstill.plan.manifests import form_and_engine

    emit, image, given = asked["emit"], asked["image"], given_options()
    form, engine = form_and_engine(emit) if emit is not None else ("", "")
    if emit is None and "pick" in given:
        raise BadInput("--pick names the point to emit; give it with --emit")
    if emit is not None and (
        asked["engine"] not in (None, engine) or (asked["tiers"] != "memory" and "tiers" in given)
    ):
        raise BadInput(
            f"--emit {emit} is of {engine} with weights in the chips' memory; leave --engine and --tiers out"
        )
    if image is not None and not form:
        raise BadInput("--image is of a manifest; give it with --emit compose:vllm, kubernetes:sglang and so on")
    if emit is None:
        return None
    source = model_source(model)
    check_engine(engine, [facts.machine(name).name for name in words(asked["chips_from"])])
    if asked["draft"] is not None and drafter(asked["draft"]) == NEW_HEADS:
        raise BadInput(f"no engine can start {NEW_HEADS}, which would have to be trained first; leave out --emit")
    return Emission(form=form, engine=engine, source=source, pick=asked["pick"], image=image)


def emitted(
    emission: Emission, facts: Facts, scenario: Scenario, space: SearchSpace, price: str, result: SearchResult
) -> dict[str, Any]:
    """The key `launch` of the document: `point`, the configuration's place in the front, None for one without the
    draft; `configuration`; `command`; and `manifest`, the text of one, if that is asked for."""
    from flashstill import api
    from flashstill.plan.engines import model_source
    from flashstill.plan.launch import launch, pick
    from flashstill.plan.manifests import manifest, written

    engine, source, form, image = emission.engine, emission.source, emission.form, emission.image
    model = api.model(str(scenario.model))
    has_experts, tokens = model.routed, math.ceil(scenario.longest_tokens(model))  # longer ones are refused
    points = _startable(facts, scenario, space, price, result, engine, has_experts)
    if form:
        points = written(facts, form, engine, points, has_experts, image)
    point = pick(points, emission.pick)
    drafted = replace(point, draft=model_source(str(scenario.draft))) if point.draft else point
    place = result.front.index(point) if point in result.front else None
    command = launch(engine, source, drafted, tokens, has_experts)
    launched = {"point": place, "configuration": asdict(point), "command": command}
    if form:
        text = manifest(facts, form, engine, source, drafted, tokens, has_experts, image)
        launched["manifest"] = text.rstrip("\n")
    return launched


def _startable(
    facts: Facts,
    scenario: Scenario,
    space: SearchSpace,
    price: str,
    result: SearchResult,
    engine: str,
    has_experts: bool,
) -> tuple[Configuration, ...]:
    """Configurations of the front that the engine can launch; if it cannot draft in some, also those without drafts."""
    from flashstill import api
    from flashstill.plan.launch import startable

    points, why = startable(engine, result.front, has_experts)
    if why and any(point.speculated_tokens for point in result.front):
        undrafted = api.search(replace(scenario, draft=None), space, price=price, facts=facts)
        points += startable(engine, undrafted.front, has_experts)[0]
    if not points:
        raise BadInput(f"{engine} can start none of the {len(result.front)} configurations found; the first: {why}")
    return points
