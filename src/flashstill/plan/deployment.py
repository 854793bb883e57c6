"""On what a scenario runs: which chips, how many, in which memory, precision and layout, with ONE set of defaults.

    format    as the checkpoint stores it, the cache in what goes with it
    engine    vllm, or none on chips that no general engine serves
    layout    tensor parallelism as far as the heads divide, a pipeline over the rest
    chips     the fewest that hold what is asked for: powers of two, or the next number that can be split
    memory    the chip's main one, of which a share stays free (cost/footprint.py)

`explain`, `predict`, a point of `plan` and a family's report all price what `resolve` makes of it (plan/resolve.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.errors import BadInput, check_counts, unknown
from flashstill.hardware import BYTES_PER_VALUE, Chip
from flashstill.hardware.software import ENGINES

GREEDY = "greedy"
AS_PUBLISHED = "published"
SAMPLINGS = (GREEDY, "top-p")
PRECISION_NAMES = {"mxfp4": "fp4", "nvfp4": "fp4", "fp8_block": "fp8-block", "fp16": "bf16", "bfloat16": "bf16"}
OWN_SOFTWARE = ("sram", "cpu")
"""classes of chips that no general serving engine runs on"""
DEGREES = ("chips", "tp", "pp", "ep", "dp")


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """Chips and how they are used. None takes the default, the same for every command.

    chip: a name of `flashstill chips`.
    chips: all of them; the fewest that hold what is asked for.  tp: as far as the heads divide.  pp: what tp leaves.
    ep: all chips of a stage where dp is above 1.  topology: edges of a torus, as "4x4x8".
    precision: as the checkpoint stores it.  kv_precision: as goes with it.
    weights_in, kv_in: names of memory tiers; the chip's main one.
    engine: vllm, or none where no engine serves the class of chip.
    sampling: the likeliest token each time ("greedy"), or drawn by top-k and top-p ("top-p").
    """

    chip: str
    chips: int | None = None
    tp: int | None = None
    pp: int | None = None
    ep: int | None = None
    dp: int | None = None
    topology: str | None = None
    precision: str | None = None
    kv_precision: str | None = None
    weights_in: str | None = None
    kv_in: str | None = None
    engine: str | None = None
    sampling: str = GREEDY

    def __post_init__(self) -> None:
        """Words are taken in any case."""
        for name in ("precision", "kv_precision", "weights_in", "kv_in", "engine", "sampling"):
            word = getattr(self, name)
            if isinstance(word, str) and not word.islower():
                object.__setattr__(self, name, word.lower())

    @property
    def follows_the_load(self) -> bool:
        """Whether the number of chips is left open, so that it depends on the load."""
        return self.chips is None and self.tp is None and self.topology is None


def check_deployment(deployment: Deployment) -> None:
    """Raise BadInput for a number below 1 or a word that is not known."""
    check_counts({name: getattr(deployment, name) for name in DEGREES})
    if deployment.sampling not in SAMPLINGS:
        raise BadInput(unknown("sampling", deployment.sampling, SAMPLINGS))


def default_engine(chip: Chip) -> str:
    """The engine that is assumed where none is named."""
    return "none" if chip.chip_class in OWN_SOFTWARE else "vllm"


def known_engine(name: str) -> str:
    """The engine, or BadInput with the nearest ones."""
    if name.lower() not in ENGINES:
        raise BadInput(unknown("engine", name, ENGINES))
    return name.lower()


def known_precision(name: str) -> str:
    """The format that a name stands for; BadInput with the nearest ones."""
    known = PRECISION_NAMES.get(name.lower(), name.lower())
    if known not in BYTES_PER_VALUE:
        raise BadInput(unknown("precision", name, [*BYTES_PER_VALUE, *PRECISION_NAMES]))
    return known


def asked_precision(name: str | None) -> str | None:
    """The format that weights are asked for in; None for those in which the checkpoint stores them."""
    return None if name in (None, AS_PUBLISHED) else known_precision(str(name))
