"""The Python face of the years ahead: trends with dates, the ceiling of one user, systolic arrays by edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flashstill.arch import load_architecture
from flashstill.asic.designing import node_nm
from flashstill.asking import Edits, FactsLike, facts_of
from flashstill.calls import refuses_other_keywords
from flashstill.codesign.ahead import ArraysAnswer, CeilingAnswer, TrendsAnswer, trends_of
from flashstill.codesign.arrays import array_costs, best_shares, products_of
from flashstill.codesign.ceiling import ceilings
from flashstill.errors import BadInput, InfeasiblePlan, check_counts

if TYPE_CHECKING:
    from flashstill.arch import Architecture

__all__ = ["arrays", "ceiling", "trends"]
MEMORIES = ("hbm3e", "hbm4", "hbm5", "dram-3d", "sram", "infinite")
SYNCS_S = (5e-6, 1e-6, 2e-7, 0.0)
CONTEXTS = (1024, 131072)
MOST_WANTED = 1e12
"""tokens a second that may be asked for"""


@refuses_other_keywords
def trends(
    *,
    year: int,
    as_of: int | None = None,
    against: str | Sequence[str] = (),
    model: str | Architecture | None = None,
    isl: int = 512,
    osl: int = 128,
    concurrency: int = 16,
    facts: FactsLike = (),
    set: Edits | None = None,
) -> TrendsAnswer:
    """What a chip that lands in `year` can be made of, by trends of dated rows with their bands.

    as_of: use only what was known at the end of that year; None for all rows.  against: chips that came, for a
    back-test of the trend lines, and of the cheapest chip that `asic` derives for `model` (isl, osl, concurrency: its
    load) from what was known then.  facts and set work as in `predict`.  Raises BadInput for impossible years,
    MissingFact where too few dated rows are known.
    """
    came = (
        tuple(word.strip() for word in against.split(",") if word.strip())
        if isinstance(against, str)
        else tuple(against)
    )
    if model is not None and not came:
        raise BadInput("a chip is proposed for a model in a back-test only; name the chips that came, as against")
    check_counts({"isl": isl, "osl": osl, "concurrency": concurrency})
    return trends_of(facts_of(facts, set), year, as_of, came, _model(model), (isl, osl, concurrency))


@refuses_other_keywords
def ceiling(
    *,
    model: str | Architecture,
    chip: str,
    memory: str | Sequence[str] = MEMORIES,
    sync_s: float | Sequence[float] = SYNCS_S,
    context: int | Sequence[int] | None = None,
    wanted: float = 10_000.0,
    precision: str = "fp8",
    max_chips: int = 1024,
    operation_s: float = 0.0,
    facts: FactsLike = (),
    set: Edits | None = None,
) -> CeilingAnswer:
    """The most tokens a second for one user at any cost, by memory, seconds of a synchronisation, and context.

    chip: whose multipliers, links and silicon are used, all at their peaks.  context: cached tokens (default: 1,024 and
    131,072, or the model's own limit where it is lower).  operation_s: least seconds of each of the
    operations that wait for each other on one chip.  wanted: tokens a second.  Raises BadInput for impossible numbers,
    InfeasiblePlan if the model fits nowhere.
    """
    if not 0.0 < wanted <= MOST_WANTED:
        raise BadInput(f"wanted must be above 0 and at most {MOST_WANTED:g} tokens a second, not {wanted:g}")
    table, shape = facts_of(facts, set, chip), _model(model)
    assert shape is not None
    rows = ceilings(
        table,
        shape,
        chip,
        (memory,) if isinstance(memory, str) else tuple(dict.fromkeys(memory)),
        (sync_s,) if isinstance(sync_s, int | float) else tuple(dict.fromkeys(sync_s)),
        _contexts(shape, context),
        precision,
        max_chips,
        operation_s,
    )
    if not rows:
        raise InfeasiblePlan(f"{shape.name} fits no machine of up to {max_chips} chips with such memories", {})
    return CeilingAnswer(model=shape.name, chip=table.machine(chip).name, wanted=wanted, rows=rows)


@refuses_other_keywords
def arrays(
    *,
    model: str | Architecture,
    tokens: int,
    edge: int | Sequence[int] = (32, 64, 128),
    precision: str = "int8",
    node: str | int = "n7",
    multipliers: float | None = 16384,
    overlapped: bool = False,
    facts: FactsLike = (),
    set: Edits | None = None,
) -> ArraysAnswer:
    """Time and energy of a model's matrix products over `tokens` tokens on systolic arrays, by their edge.

    multipliers: of each candidate, cut into arrays of its edge; None for one array each.  overlapped: weights of the
    next tile load while products run.  Raises BadInput for impossible numbers, UnsupportedArchitecture for models whose
    blocks are no plain products.
    """
    table, shape, nm = facts_of(facts, set), _model(model), node_nm(node)
    assert shape is not None
    check_counts({"tokens": tokens})
    edges = (edge,) if isinstance(edge, int) else tuple(dict.fromkeys(edge))
    rows = array_costs(table, products_of(shape, tokens), edges, precision, nm, multipliers, overlapped)
    shares = best_shares(table, rows, precision)
    return ArraysAnswer(model=shape.name, tokens=tokens, precision=precision, node_nm=nm, rows=rows, shares=shares)


def _contexts(model: Architecture, context: int | Sequence[int] | None) -> tuple[int, ...]:
    if context is None:
        return tuple(dict.fromkeys(min(tokens, model.context) for tokens in CONTEXTS))
    return (context,) if isinstance(context, int) else tuple(dict.fromkeys(context))


def _model(model: str | Architecture | None) -> Architecture | None:
    return load_architecture(model) if isinstance(model, str) else model
