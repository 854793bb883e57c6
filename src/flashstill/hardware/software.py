"""What an engine adds to its kernels: rows of `engine-NAME`, over those of class `engine`, which all inherit."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from flashstill.errors import MissingFact, unknown
from flashstill.facts import Facts
from flashstill.hardware.needs import Needs

ALONE = "none"
ENGINES = ("vllm", "sglang", "trtllm", ALONE)
_ENGINE = "engine"


@dataclass(frozen=True, kw_only=True, slots=True)
class Software:
    """What an engine adds to its kernels.

    step_s a step, layer_s a block (small kernels and gaps), sequence_s a sequence of the batch.
    norm_ratio: what two norms beyond a block's own two (of queries and keys, say) add to its layer_s.
    logit_s a logit of a sequence, where tokens are drawn by top-k or top-p: the engine sorts them.
    matmul_ratio, experts_ratio, collective_ratio: time of its kernels over that of the kernels measured alone.
    quantise_ratio: share of the measured quantisation that it does not fuse.
    interference_ratio: share of other requests' prefills that a decoding request waits for.
    first_ratio, queue_ratio: time to first token in prefills of the own prompt, and of each other request in flight.
    usable_ratio: share of the memory, as the driver shows it, for weights, cache, buffers and graphs.
    buffer_bytes: activations and what libraries hold on each chip.  graph_bytes: CUDA graphs.
    sync_ratio: share of a training step that each doubling of the domains adds, which wait for each other.
    exposed_ratio: share of the collectives of replicas in training that stays exposed where work could cover it.
    tpot_low, tpot_high: measured over predicted, 10 % to 90 %.
    """

    name: str
    step_s: float
    layer_s: float
    sequence_s: float
    norm_ratio: float
    logit_s: float
    matmul_ratio: float
    experts_ratio: float
    collective_ratio: float
    quantise_ratio: float
    interference_ratio: float
    first_ratio: float
    queue_ratio: float
    usable_ratio: float
    buffer_bytes: float
    graph_bytes: float
    sync_ratio: float
    exposed_ratio: float
    tpot_low: float
    tpot_high: float
    fastest_of: tuple[Software, ...] = ()
    """engines whose collectives may be used where they are faster"""


NO_SOFTWARE = Software(
    name="perfect",
    step_s=0.0,
    layer_s=0.0,
    sequence_s=0.0,
    norm_ratio=0.0,
    logit_s=0.0,
    matmul_ratio=1.0,
    experts_ratio=1.0,
    collective_ratio=1.0,
    quantise_ratio=0.0,
    interference_ratio=1.0,
    first_ratio=1.0,
    queue_ratio=0.0,
    usable_ratio=0.9,
    buffer_bytes=0.0,
    graph_bytes=0.0,
    sync_ratio=0.0,
    exposed_ratio=0.0,
    tpot_low=1.0,
    tpot_high=1.0,
)
"""kernels without any software around them"""


def software_of(facts: Facts, engine: str) -> Software:
    """The overheads of an engine: its rows (engine-vllm and so on) over those of class `engine`; "none" is the kernels
    alone.  MissingFact for an engine that no row knows, and for rows that neither has."""
    return facts.derived(("engine", engine), lambda: _software(facts, engine))


GAINS = ("matmul_ratio", "experts_ratio", "collective_ratio", "interference_ratio")
"""ratios to what was measured alone: below 1 an engine's kernels are faster, or it fills decode steps with prefills"""
_NEVER_SLOWER = (*GAINS, "quantise_ratio", "first_ratio", "queue_ratio")


def software_on(facts: Facts, engine: str, chip_class: str) -> Software:
    """What an engine adds on chips of a class.

    A gain, a ratio below 1, is known of the classes of chips on which engines were measured, and not assumed of others.
    "none", the kernels alone, takes the best known of each kind: the kernels as measured alone or as an engine makes
    them, and no overhead.  So it is never slower than with an engine.
    """
    return facts.derived(("engine on", engine, chip_class), lambda: _software_on(facts, engine, chip_class))


def _software_on(facts: Facts, engine: str, chip_class: str) -> Software:
    if engine == ALONE:
        engines = tuple(software_on(facts, name, chip_class) for name in ENGINES if name != ALONE)
        alone = software_of(facts, engine)
        least: dict[str, Any] = {
            name: min(float(getattr(engine_rows, name)) for engine_rows in (alone, *engines)) for name in _NEVER_SLOWER
        }
        return replace(alone, fastest_of=engines, **least)
    software = software_of(facts, engine)
    measured = {
        machine.chip_class for name, machine in facts.machines.items() if facts.find(name, "serving_measurements")
    }
    if chip_class in measured:
        return software
    slower: dict[str, Any] = {name: max(float(getattr(software, name)), 1.0) for name in GAINS}
    return replace(software, **slower)


def _software(facts: Facts, engine: str) -> Software:
    owner = f"{_ENGINE}-{engine}"
    known = {name for name, _ in facts.rows if name.startswith(f"{_ENGINE}-")}
    if owner not in known:
        names = (name.removeprefix(f"{_ENGINE}-") for name in known)
        raise MissingFact(unknown("engine", engine, names))
    needs = Needs(facts, owner, _ENGINE)
    numbers: dict[str, Any] = {
        field.name: needs.number(field.name)
        for field in fields(Software)
        if field.default is MISSING and field.name != "name"
    }
    needs.refuse()
    return Software(name=engine, **numbers)
