"""Match the module lists of quantisation schemes (such as modules to skip) to kinds of weights.

Patterns are plain names ("lm_head", "model.layers.3.self_attn"), globs ("model.layers.*.self_attn*") or regular
expressions ("re:.*self_attn.*").  Lists name blocks one by one, and blocks of a hybrid model differ, so that all blocks
of a model are tried, and a kind of weight matches if most of the blocks that have it do.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from flashstill.errors import shortened

_PREFIXES = ("", "model.", "language_model.", "model.language_model.", "language_model.model.", "backbone.")
# Module names used in published checkpoints; {0} is the block number.
_SAMPLES = {
    "attention": (
        "layers.{0}.self_attn.o_proj",
        "layers.{0}.linear_attn.out_proj",
        "layers.{0}.mixer.o_proj",
        "layers.{0}.mixer.out_proj",
        "layers.{0}.mamba.out_proj",
        "layers.{0}.attn.wo_b",
    ),
    "experts": (
        "layers.{0}.mlp.experts.0.down_proj",
        "layers.{0}.block_sparse_moe.experts.0.w2",
        "layers.{0}.feed_forward.experts.0.down_proj",
        "layers.{0}.mixer.experts.0.down_proj",
        "layers.{0}.ffn.experts.0.w2",
    ),
    "linear": (
        "layers.{0}.mlp.down_proj",
        "layers.{0}.mlp.shared_experts.down_proj",
        "layers.{0}.mlp.shared_expert.down_proj",
        "layers.{0}.block_sparse_moe.shared_experts.down_proj",
        "layers.{0}.feed_forward.down_proj",
        "layers.{0}.feed_forward.shared_expert.down_proj",
        "layers.{0}.mixer.shared_experts.down_proj",
        "layers.{0}.mixer.down_proj",
        "layers.{0}.ffn.shared_experts.w2",
    ),
    "head": tuple(prefix + name for prefix in _PREFIXES for name in ("lm_head", "head")),
}
# Families whose dense FFN stands beside the experts under the name that others have for both.
_OF_FAMILY = {
    "gemma4_text": {"experts": ("layers.{0}.experts.0.down_proj", "layers.{0}.moe.experts.0.down_proj")},
    "gemma4_unified_text": {"experts": ("layers.{0}.experts.0.down_proj", "layers.{0}.moe.experts.0.down_proj")},
}
KINDS = tuple(_SAMPLES)

# Regular expressions come from an untrusted file: without a repeated group, a match takes at most
# (length of a name) ^ repeats steps, where (a+)+ would take 2 ^ length.
_LONGEST, _MOST_REPEATS = 1000, 6
_REPEATED_GROUP = re.compile(r"\)\s*[*+{]")
_REPEAT = re.compile(r"(?<!\()[*+?{]")
_NUMBER = re.compile(r"layers\.(\d+)\.")
_MOST_PATTERNS = 5_000
"""globs and regular expressions of one list, published ones have some hundreds; plain names may be any number"""
_MOST_TRIES = 20_000
"""patterns without a block number times blocks, from where on not all blocks are tried"""
_LEAST_BLOCKS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Modules:
    """The blocks of a model: how many numbers its blocks have in a checkpoint, and how many have a kind of weight.

    family: its model_type, where its module names are its own.
    """

    numbers: int
    present: Mapping[str, int] = field(default_factory=dict)
    family: str = ""

    def matches(self, kind: str, patterns: Iterable[str]) -> bool:
        """Whether `patterns` match the modules of this kind of weight in most of the blocks that have it.

        Raises ValueError for a regular expression that is invalid or could take too long.
        """
        known = _known(tuple(patterns))
        samples = _OF_FAMILY.get(self.family, {}).get(kind, _SAMPLES[kind])
        if kind == "head":
            return any(known.hit(sample, "") for sample in samples)
        tried = known.blocks(self.numbers)
        hits = sum(any(known.hit(sample.format(i), str(i)) for sample in samples) for i in tried)
        having = min(self.present.get(kind, self.numbers), self.numbers)
        return hits * 2 * self.numbers > having * len(tried)


class _Patterns:
    """Patterns sorted by how they are looked up: whole names in a set, globs by the block that they name."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.names: set[str] = set()
        self.globs: dict[str, list[re.Pattern[str]]] = {}
        self.expressions: list[re.Pattern[str]] = []
        loose = sum("*" in pattern or pattern.startswith("re:") for pattern in patterns)
        if loose > _MOST_PATTERNS:
            raise ValueError(f"a list of modules has {loose:,} patterns; at most {_MOST_PATTERNS:,} are read")
        for pattern in patterns:
            if pattern.startswith("re:"):
                self.expressions.append(_compiled(pattern[3:]))
                continue
            # The prefix before "layers." differs between checkpoints.
            name = pattern[max(pattern.find("layers."), 0) :]
            if "*" not in name:
                self.names.add(name)
            else:
                number = _NUMBER.match(name)
                self.globs.setdefault(number[1] if number else "", []).append(_glob(name))

    def blocks(self, numbers: int) -> list[int]:
        """The block numbers to try: all, or fewer evenly spaced ones where the patterns are many."""
        general = 1 + len(self.expressions) + len(self.globs.get("", ()))
        most = max(_LEAST_BLOCKS, _MOST_TRIES // general)
        if numbers <= most:
            return list(range(numbers))
        return sorted({(2 * i + 1) * numbers // (2 * most) for i in range(most)})

    def hit(self, name: str, number: str) -> bool:
        """Whether a pattern matches the module `name` of block `number` or a module that holds it."""
        parts = name.split(".")
        # Whole parts of the name: "gate" must not match "gate_proj".
        runs = (".".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1))
        if any(run in self.names for run in runs):
            return True
        # A list of globs for no block ("") and one for this block.
        globs = (*self.globs.get("", ()), *(self.globs.get(number, ()) if number else ()))
        return any(glob.match(name) for glob in globs) or any(
            one.match(prefix + name) for one in self.expressions for prefix in _PREFIXES
        )


@lru_cache(maxsize=16)
def _known(patterns: tuple[str, ...]) -> _Patterns:
    """All kinds of weights are looked for in the same list."""
    return _Patterns(patterns)


def _glob(name: str) -> re.Pattern[str]:
    """A glob as a regular expression that also matches modules inside those that it names."""
    return re.compile(f"{fnmatch.translate(name)}|{fnmatch.translate(f'{name}.*')}")


def _compiled(text: str) -> re.Pattern[str]:
    if len(text) > _LONGEST or _REPEATED_GROUP.search(text) or len(_REPEAT.findall(text)) > _MOST_REPEATS:
        raise ValueError(f"the pattern {shortened(text)!r} repeats too much to be matched in bounded time")
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"the pattern {shortened(text)!r} is no regular expression") from error
