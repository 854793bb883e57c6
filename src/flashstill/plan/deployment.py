"""The deployment of a scenario: chips, count, layout, memory, precision, with ONE set of defaults for all commands.

    format    as the checkpoint stores it; the cache in the matching format
    engine    vllm, or none on chips that no general engine serves
    layout    tensor parallelism as far as the heads divide, a pipeline over the rest (plan/layouts.py)
    experts   one copy of each, or the fewest redundant ones that let ep divide them
    chips     the fewest that hold the load: powers of two, or the next number that can be split
    memory    the chip's main memory, of which a share stays free (cost/footprint.py)

`explain`, `predict`, a point of `plan` and a family's report all price the output of `resolve` (plan/resolve.py).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from flashstill.errors import BadInput, check_counts, unknown
from flashstill.hardware import BYTES_PER_VALUE, Chip
from flashstill.hardware.memories import DRAM
from flashstill.hardware.software import EAGER, ENGINES, LOCAL, engine_name

GREEDY = "greedy"
AS_PUBLISHED = "published"
SAMPLINGS = (GREEDY, "top-p")
PRECISION_NAMES = {"nvfp4": "fp4", "fp8_block": "fp8-block", "fp16": "bf16", "bfloat16": "bf16"}
OWN_SOFTWARE = ("sram", "cpu")
"""chip classes that no general serving engine runs on"""
DEGREES = ("chips", "tp", "pp", "ep", "dp")
LAID = (*DEGREES, "redundant_experts")
PREFILL = "prefill_"
PREFILL_FIELDS = (*(f"{PREFILL}{name}" for name in LAID), "prefill_instances")
"""fields of a prefill pool; one of them given means that prefill and decoding have pools of their own"""
APART, TWO_BATCH = "none", "two-batch"
OVERLAPS = (APART, TWO_BATCH)
NO_TWO_BATCH = ("trtllm", "vllm-v0", LOCAL, "transformers", EAGER)
"""engines that cannot run two micro-batches at a time"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """Chips and how they are used. None takes the default, which is the same for every command.

    chip: a name of `flashstill chips`.
    chips: number of chips; default: the fewest that hold the load.  tp: default: as far as the heads divide.
    pp: default: chips / tp.  ep: default: all chips of a stage if dp is above 1.
    redundant_experts: second copies of popular experts, which a load balancer places; default: the fewest that let ep
    divide experts and copies, 0 where it divides the experts.
    prefill_chips, prefill_tp, prefill_pp, prefill_ep, prefill_dp, prefill_redundant_experts: the layout of one prefill
    instance, if prefill has chips of its own; the other fields are then of the decode pool.  Open ones get defaults.
    prefill_instances: number of equal prefill instances; default: 1.
    overlap: "two-batch" computes one half of a batch while the tokens of the other are sent to their experts and back;
    "none" computes and sends in turn.
    topology: edges of a torus, as "4x4x8".
    precision: default: as the checkpoint stores it.  kv_precision: default: the format that goes with the weights.
    weights_in, kv_in: names of memory tiers; default: the chip's main memory.
    engine: default: vllm, or none if no engine serves the class of chip.  A name alone is the engine of today; an older
    version that has rows of its own is NAME@VERSION (trtllm@1.0).
    sampling: "greedy" (the likeliest token), or "top-p" (sampled by top-k and top-p).
    """

    chip: str
    chips: int | None = None
    tp: int | None = None
    pp: int | None = None
    ep: int | None = None
    dp: int | None = None
    redundant_experts: int | None = None
    prefill_chips: int | None = None
    prefill_tp: int | None = None
    prefill_pp: int | None = None
    prefill_ep: int | None = None
    prefill_dp: int | None = None
    prefill_redundant_experts: int | None = None
    prefill_instances: int | None = None
    topology: str | None = None
    precision: str | None = None
    kv_precision: str | None = None
    weights_in: str | None = None
    kv_in: str | None = None
    engine: str | None = None
    sampling: str = GREEDY
    overlap: str = APART

    def __post_init__(self) -> None:
        """Lower-cases the name-like fields."""
        for name in ("precision", "kv_precision", "weights_in", "kv_in", "engine", "sampling", "overlap"):
            word = getattr(self, name)
            if isinstance(word, str) and not word.islower():
                object.__setattr__(self, name, word.lower())

    @property
    def has_prefill_pool(self) -> bool:
        """Whether prefill and decoding run on pools of their own."""
        return any(getattr(self, name) is not None for name in PREFILL_FIELDS)

    @property
    def of_prefill(self) -> Deployment:
        """One prefill instance as a deployment of its own."""
        changed: dict[str, Any] = dict.fromkeys(PREFILL_FIELDS)
        changed |= {name: getattr(self, f"{PREFILL}{name}") for name in LAID}
        return replace(self, **changed)

    def with_prefill(self, instance: Deployment) -> Deployment:
        """This one beside prefill instances that are laid out as `instance`."""
        return replace(self, **{f"{PREFILL}{name}": getattr(instance, name) for name in LAID})

    @property
    def of_decode(self) -> Deployment:
        """The decode pool as a deployment of its own."""
        changed: dict[str, Any] = dict.fromkeys(PREFILL_FIELDS)
        return replace(self, **changed)

    @property
    def told(self) -> dict[str, Any]:
        """The fields that say more than a default: `Deployment(**told)` is the same."""
        used = {field.name: getattr(self, field.name) for field in fields(self)}
        for pool in ("", PREFILL):  # of tensor parallelism alone chips and tp say all
            if [used[f"{pool}{degree}"] for degree in ("pp", "ep", "dp")] == [1, 1, 1]:
                used |= dict.fromkeys(f"{pool}{name}" for name in LAID if name not in ("chips", "tp"))
        defaults = {field.name: field.default for field in fields(self)}
        defaults |= {"precision": AS_PUBLISHED, "weights_in": DRAM, "kv_in": DRAM}
        return {name: value for name, value in used.items() if value is not None and value != defaults[name]}

    @property
    def follows_the_load(self) -> bool:
        """Whether the number of chips is open, so that it depends on the load."""
        return self.chips is None and self.tp is None and self.topology is None


def check_deployment(deployment: Deployment) -> None:
    """Raise BadInput for a number below 1 or an unknown name."""
    prefill = (name for name in PREFILL_FIELDS if not name.endswith("redundant_experts"))
    check_counts({name: getattr(deployment, name) for name in (*DEGREES, *prefill)})
    for name in ("redundant_experts", f"{PREFILL}redundant_experts"):
        number = getattr(deployment, name)
        if number is not None and number < 0:
            raise BadInput(f"{name} must be at least 0, not {number}")
    if deployment.has_prefill_pool and deployment.topology:
        raise BadInput(
            "a topology is that of one slice, and a prefill pool has chips of its own; leave one of them out"
        )
    known_overlap(deployment.overlap)
    if deployment.sampling not in SAMPLINGS:
        raise BadInput(unknown("sampling", deployment.sampling, SAMPLINGS))


def default_engine(chip: Chip) -> str:
    """The engine used if none is given."""
    return "none" if chip.chip_class in OWN_SOFTWARE else "vllm"


def known_engine(name: str) -> str:
    """The engine, NAME or NAME@VERSION; BadInput with the nearest names if the name is unknown."""
    if engine_name(name.lower()) not in ENGINES:
        raise BadInput(unknown("engine", name, ENGINES))
    return name.lower()


def known_overlap(name: str) -> str:
    """The kind of overlap; BadInput with the nearest names if it is unknown."""
    if name.lower() not in OVERLAPS:
        raise BadInput(unknown("overlap", name, OVERLAPS))
    return name.lower()


def known_precision(name: str) -> str:
    """The format of a name or alias; BadInput with the nearest names if it is unknown."""
    known = PRECISION_NAMES.get(name.lower(), name.lower())
    if known not in BYTES_PER_VALUE:
        raise BadInput(unknown("precision", name, [*BYTES_PER_VALUE, *PRECISION_NAMES]))
    return known


def asked_precision(name: str | None) -> str | None:
    """The weight format requested; None for the formats of the checkpoint."""
    return None if name in (None, AS_PUBLISHED) else known_precision(str(name))
