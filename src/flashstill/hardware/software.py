"""Overheads of a serving engine: rows of `engine-NAME`, with those of class `engine` as defaults.

An engine without a version is the engine of today: the newest versions that were measured.  An older one that has rows
of its own is asked for by its version, NAME@VERSION (trtllm@1.0); its rows are those of `engine-NAME@VERSION`, with the
engine's as defaults.

On chips of a maker's class on which no engine was measured, rows of that class (tpu-google, gpu-amd) replace the
overheads that depend on the chip's runtime and compiler: gaps between kernels, work per sequence, memory for buffers
and recorded graphs.  Those of condition "runtime" belong to every program on the chip, so that kernels without an
engine have them as well.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from math import inf
from typing import Any

from flashstill.errors import MissingFact, unknown
from flashstill.facts import Facts
from flashstill.hardware.needs import Needs

ALONE = "none"
FITTED = ("vllm", "sglang", "trtllm")
"""engines with overheads fitted to published measurements; others have those of class `engine`, or a user's own"""
EAGER = "transformers-eager"
"""transformers' classes whose kernels the host launches one by one: generate, pipelines, training loops"""
EARLY = "vllm-v0"
"""vLLM before 0.8, whose host prepares each step between steps"""
LOCAL = "llama-cpp"
"""llama.cpp and what is built on it, with kernels of its own for every maker"""
ENGINES = (*FITTED, EARLY, LOCAL, "transformers", EAGER, ALONE)
_ENGINE = "engine"
VERSIONED = "@"
"""between an engine's name and its version"""


def engine_name(asked: str) -> str:
    """The engine of NAME or NAME@VERSION, without the version."""
    return asked.partition(VERSIONED)[0]


def owners_of(asked: str) -> tuple[str, ...]:
    """Owners of the rows of an engine, NAME or NAME@VERSION: those of the version come first."""
    return tuple(dict.fromkeys(f"{_ENGINE}-{name}" for name in (asked, engine_name(asked))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Software:
    """Overheads of a serving engine, relative to its kernels measured alone.

    step_s, layer_s, sequence_s: seconds added per step, per block (small kernels and gaps), per sequence of the batch.
    norm_ratio: relative increase of layer_s for each two norms beyond the usual two of a block (such as QK norms).
    logit_s: seconds per logit of a sequence when sampling by top-k or top-p, which sorts the logits.
    matmul_ratio, experts_ratio, collective_ratio: time of the engine's kernels over that of kernels measured alone.
    quantise_ratio: fraction of the measured quantisation time that the engine does not fuse away.
    scales_ratio: part of the measured time to quantise to fp8 with one scale a tensor that does not go into finding the
    scale, which served checkpoints bring along.
    interference_ratio: fraction of other requests' prefill time by which a decoding request is delayed.
    first_s: seconds of TTFT that no prompt explains: the way in, tokenising, scheduling, launching, streaming.
    first_block_s: the same for each block with routed experts, whose kernels are launched one by one.
    eager_ratio: 1 if prompts run as single kernels, 0 if they are compiled and recorded in graphs.
    first_ratio: prefill time before a first token, the request's own and that of requests ahead, over its kernels'.
    mixed_ratio: 1 if prompts join running decode steps, 0 if they are prefilled in steps of their own.
    prefill_tokens: most prompt tokens of a step (max_num_batched_tokens, chunked_prefill_size, max_num_tokens).
    reserved_ratio: fraction of the output tokens still to come for which memory is reserved at admission.
    usable_ratio: fraction of driver-visible memory for weights, KV cache, buffers and graphs.
    free_ratio: fraction of what weights, buffers and graphs leave of it that the KV cache gets.
    buffer_bytes: activations and library workspaces per chip.  graph_bytes: CUDA graphs.
    rank_bytes: further memory of each chip for each of the replicas of attention that share experts and step together.
    state_share: of the memory for caches that is for recurrent states alone; 0: they share it with the rest.
    state_slots: states that are kept for each running request, with those that its prefix cache holds.
    mxfp4_input_bits: of an activation that meets weights in mxfp4, on chips that multiply 4-bit floats: 16, 8 or 4.
    launch_ratio: the chip's shortest kernel over its class's, with which layer_s scales: gaps and small kernels.
    routed_blocks: those of the model that is served; of `first_token_s`.
    launch_s: seconds of the host for each kernel that it launches by itself; 0 where graphs are recorded.
    step_launches, block_launches, norm_launches, expert_launches: such kernels of a step (embedding, mask, head), of a
    block with dense FFN, of each two further norms, and how many more a block has that routes tokens to experts.
    tpot_ratio, ttft_ratio: measured over predicted latencies of one stack, from a user's own measurements.
    sync_ratio: fraction of a training step added per doubling of the number of domains, for synchronisation.
    exposed_ratio: fraction of data-parallel collectives in training that is not overlapped though it could be.
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
    scales_ratio: float
    interference_ratio: float
    first_s: float
    first_block_s: float
    eager_ratio: float
    first_ratio: float
    mixed_ratio: float
    prefill_tokens: float
    reserved_ratio: float
    usable_ratio: float
    free_ratio: float
    buffer_bytes: float
    graph_bytes: float
    rank_bytes: float
    state_share: float
    state_slots: float
    mxfp4_input_bits: float
    sync_ratio: float
    exposed_ratio: float
    launch_ratio: float = 1.0
    routed_blocks: float = 0.0
    launch_s: float = 0.0
    step_launches: float = 0.0
    block_launches: float = 0.0
    norm_launches: float = 0.0
    expert_launches: float = 0.0
    tpot_ratio: float = 1.0
    ttft_ratio: float = 1.0
    version: str = ""
    """of an older engine with rows of its own; empty for the engine of today"""
    fastest_of: tuple[Software, ...] = ()
    """engines whose kernels and collectives are used if faster"""

    @property
    def asked_as(self) -> str:
        """The name under which a deployment asks for this engine: NAME, or NAME@VERSION."""
        return f"{self.name}{VERSIONED}{self.version}" if self.version else self.name

    @property
    def owners(self) -> tuple[str, ...]:
        """Owners of the rows of this engine, those of its version first."""
        return owners_of(self.asked_as)

    @property
    def first_token_s(self) -> float:
        """Seconds of TTFT that no prompt explains, launches included."""
        return self.first_s + self.eager_ratio * self.first_block_s * self.routed_blocks


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
    scales_ratio=1.0,
    interference_ratio=1.0,
    first_s=0.0,
    first_block_s=0.0,
    eager_ratio=0.0,
    first_ratio=1.0,
    mixed_ratio=1.0,
    prefill_tokens=inf,
    reserved_ratio=0.0,
    usable_ratio=1.0,
    free_ratio=1.0,
    buffer_bytes=0.0,
    graph_bytes=0.0,
    rank_bytes=0.0,
    state_share=0.0,
    state_slots=1.0,
    mxfp4_input_bits=4.0,
    sync_ratio=0.0,
    exposed_ratio=0.0,
)
"""kernels without any software around them, on a chip of which they have all memory"""
MEMORY_FIELDS = (
    "usable_ratio", "free_ratio", "reserved_ratio", "prefill_tokens", "buffer_bytes", "graph_bytes", "rank_bytes",
    "state_share", "state_slots",
)  # fmt: skip
"""what an engine does with memory, which faster kernels do not change"""


def software_of(facts: Facts, engine: str) -> Software:
    """Overheads of an engine: its rows (engine-vllm and so on), with class `engine` as defaults; "none" means kernels
    alone.  engine: NAME or NAME@VERSION.  MissingFact for an unknown one, or for quantities without a row."""
    return facts.derived(("engine", engine), lambda: _software(facts, engine))


GAINS = ("matmul_ratio", "experts_ratio", "collective_ratio", "interference_ratio")
"""ratios that can be gains: below 1 if the engine's kernels are faster, or prefills overlap with decode steps"""
_NEVER_SLOWER = (*GAINS, "quantise_ratio", "scales_ratio", "first_ratio", "first_s", "first_block_s", "reserved_ratio")
RUNTIME = "runtime"
"""condition of a maker's class rows that hold for kernels without an engine as well"""
_OVERHEADS = ("step_s", "layer_s", "sequence_s", "norm_ratio", "logit_s", "buffer_bytes", "graph_bytes", "rank_bytes")


def software_on(facts: Facts, engine: str, maker_class: str) -> Software:
    """Overheads of an engine on chips of a maker's class, such as gpu-amd.

    Gains (ratios below 1) apply only to makers' classes on which engines were measured; elsewhere the ratio is 1, rows
    of the maker's class replace the overheads measured with other chips (its `first_s` has the launches of prompts),
    and kernels multiply in the narrowest format.
    "none" uses, for each kind, the fastest of the kernels measured alone and those of any engine, without overhead,
    so it is never slower than an engine.
    """
    return facts.derived(("engine on", engine, maker_class), lambda: _software_on(facts, engine, maker_class))


def has_measured_engines(facts: Facts, maker_class: str) -> bool:
    """Whether serving measurements of any chip of the maker's class were used to fit the engines."""
    return maker_class in facts.derived(
        "makers' classes with measured engines",
        lambda: {each.maker_class for name, each in facts.machines.items() if facts.find(name, "serving_measurements")},
    )


def _software_on(facts: Facts, engine: str, maker_class: str) -> Software:
    if engine == ALONE:
        engines = tuple(software_on(facts, name, maker_class) for name in FITTED)
        alone = software_of(facts, engine)
        least: dict[str, Any] = {
            name: min(float(getattr(engine_rows, name)) for engine_rows in (alone, *engines)) for name in _NEVER_SLOWER
        }
        return replace(alone, fastest_of=engines, **{**least, **_of_the_platform(facts, maker_class, RUNTIME)})
    software = software_of(facts, engine)
    if has_measured_engines(facts, maker_class):
        return software
    changes: dict[str, Any] = {name: max(float(getattr(software, name)), 1.0) for name in GAINS}
    changes |= {"mxfp4_input_bits": NO_SOFTWARE.mxfp4_input_bits, "first_block_s": 0.0}
    return replace(software, **{**changes, **_of_the_platform(facts, maker_class)})


def _of_the_platform(facts: Facts, maker_class: str, condition: str = "") -> dict[str, Any]:
    """Overheads with rows of the maker's class, of a condition if one is given."""
    rows = {name: facts.find(maker_class, name, condition) for name in (*_OVERHEADS, *_NEVER_SLOWER)}
    return {name: row.value for name, row in rows.items() if row is not None}


def _software(facts: Facts, engine: str) -> Software:
    owner, *between = owners_of(engine)
    known = {name for name, _ in facts.rows if name.startswith(f"{_ENGINE}-")}
    if owner not in known:
        raise MissingFact(unknown("engine", engine, (name.removeprefix(f"{_ENGINE}-") for name in known)))
    needs = Needs(facts, owner, _ENGINE, between=tuple(between))
    numbers: dict[str, Any] = {
        field.name: needs.number(field.name)
        for field in fields(Software)
        if field.default is MISSING and field.name != "name"
    }
    needs.refuse()
    name, _, version = engine.partition(VERSIONED)
    return Software(name=name, version=version, **numbers)
