"""Manifests of a configuration that `plan` found: Docker Compose for one host, Kubernetes for any number."""

from __future__ import annotations

from collections.abc import Sequence

from flashstill.errors import BadInput, unknown
from flashstill.facts import Facts
from flashstill.plan.engines import ENGINES
from flashstill.plan.manifests.compose import compose
from flashstill.plan.manifests.kubernetes import kubernetes
from flashstill.plan.manifests.pools import WRITTEN_FOR, containers_of
from flashstill.plan.space import Configuration

COMPOSE, KUBERNETES = "compose", "kubernetes"
FORMS = (COMPOSE, KUBERNETES)
__all__ = ["EMITTED", "FORMS", "form_and_engine", "manifest", "written"]

EMITTED = (*ENGINES, *(f"{form}:{engine}" for form in FORMS for engine in WRITTEN_FOR))
"""what --emit takes"""


def form_and_engine(emit: str) -> tuple[str, str]:
    """("", engine) for commands, (form, engine) for a manifest. BadInput with the nearest choices for another text."""
    if emit not in EMITTED:
        raise BadInput(unknown("engine", emit, EMITTED))
    form, _, engine = emit.rpartition(":")
    return form, engine


def manifest(
    facts: Facts,
    form: str,
    engine: str,
    model: str,
    point: Configuration,
    tokens: int,
    has_experts: bool = True,
    image: str | None = None,
) -> str:
    """The manifest as YAML, with comments. form: one of `FORMS`; model: Hugging Face id or directory; tokens: of the
    longest request; image: in place of the engine's own."""
    found = containers_of(facts, engine, model, point, tokens, has_experts, image)
    return compose(found, point) if form == COMPOSE else kubernetes(found)


def written(
    facts: Facts, form: str, engine: str, points: Sequence[Configuration], has_experts: bool, image: str | None
) -> tuple[Configuration, ...]:
    """The configurations for which a manifest can be written; BadInput, with the first reason, if there is none."""
    found, why = [], ""
    for point in points:
        try:
            manifest(facts, form, engine, "some/model", point, 2, has_experts, image)
            found.append(point)
        except BadInput as error:
            why = why or str(error)
    if not found:
        raise BadInput(
            f"no {form} manifest can be written for the {len(points)} configurations found; the first: {why}"
        )
    return tuple(found)
