"""From a user's words to the space of a chip search: the year's processes, memories and watts, and its futures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flashstill.asic.designing import known_node
from flashstill.codesign.dated import known_until
from flashstill.codesign.design_space import ENOUGH, LARGEST, design_space
from flashstill.codesign.designs import FORMATS, ON_SRAM, DesignSpace, known_formats, known_memories
from flashstill.codesign.finer import LEFT
from flashstill.codesign.future import Future, Mix
from flashstill.codesign.futures import landing_year, standard_futures
from flashstill.codesign.futures_file import read_futures
from flashstill.codesign.roadmap import facts_of, roadmap
from flashstill.codesign.search_question import today
from flashstill.errors import BadInput
from flashstill.facts import Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedSpace:
    """facts: with the rows of the roadmap.  year: in which the chip lands.  notes: what was filled in."""

    facts: Facts
    space: DesignSpace
    year: int
    notes: tuple[str, ...]


def asked_space(
    facts: Facts,
    *,
    year: int | None,
    as_of: int | None,
    nodes: Sequence[str],
    memories: Sequence[str],
    designs: int,
) -> AskedSpace:
    """The space for a chip that lands in a year; BadInput for words that are not known, or not in volume by then."""
    lands = landing_year(facts, known_until(facts, as_of)) if year is None else year
    plan, known = roadmap(facts, lands, as_of), facts_of(facts, lands, as_of)
    kinds = known_memories(known)
    made = known.value("chip-search", "production_years")
    in_volume = tuple(
        kind for kind in kinds if kind in plan.memories and plan.memories[kind].since.value + made >= lands
    )
    for kind in memories:
        if kind in kinds and kind not in in_volume:
            raise BadInput(f"{kind} is not made in volume for a chip of {lands}; kinds that are: {_listed(in_volume)}")
    chosen = tuple(known_node(known, node) for node in nodes) or (int(plan.node_nm),)
    space = design_space(
        known,
        nodes=chosen,
        designs=designs - designs // LEFT if designs <= LARGEST else designs,  # the others are for refinement
        memories=tuple(memories) or (*in_volume, ON_SRAM),
        narrowest=known_formats(known) or FORMATS[:1],
        least=ENOUGH,
    )
    watts = known.value("cooling", "package_w")
    notes = [
        f"a chip that lands in {lands}, of {_listed([f'{node} nm' for node in chosen])}, with at most {watts:.0f} W a"
        f" package; memories to choose from: {_listed(memories or (*in_volume, 'SRAM only'))}",
        "designs are priced as chips of a class of which none was measured; areas are known to a third",
        *plan.notes,
    ]
    return AskedSpace(facts=known, space=space, year=lands, notes=tuple(notes))


def futures_of_words(
    facts: Facts, mix: Mix, words: Sequence[str | Path], year: int, as_of: int | None, demand: float
) -> tuple[Future, ...]:
    """Futures by kind from today's mix, or of a file; today's mix for good without any."""
    files = [word for word in words if isinstance(word, Path) or str(word).endswith(".toml")]
    if files and len(words) > 1:
        raise BadInput("give either kinds of futures or one file of futures, not both")
    if files:
        return read_futures(facts, Path(files[0]))
    if not words:
        return (replace(today(mix), demand=(demand,)),)
    return standard_futures(facts, mix, year, as_of, [str(word) for word in words], demand)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
