"""Match the module lists of quantisation schemes (such as modules to skip) to kinds of weights.

Patterns are plain names ("lm_head", "model.layers.3.self_attn"), globs ("model.layers.*.self_attn*") or regular
expressions ("re:.*self_attn.*").  A kind of weight matches if most of three blocks in the middle of the model match.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from flashstill.errors import shortened

# Module names used in published checkpoints; {0} is the block number.
_SAMPLES = {
    "attention": ("layers.{0}.self_attn.o_proj",),
    "experts": (
        "layers.{0}.mlp.experts.0.down_proj",
        "layers.{0}.block_sparse_moe.experts.0.w2",
        "layers.{0}.feed_forward.experts.0.down_proj",
    ),
    "linear": (
        "layers.{0}.mlp.down_proj",
        "layers.{0}.mlp.shared_experts.down_proj",
        "layers.{0}.mlp.shared_expert.down_proj",
        "layers.{0}.feed_forward.down_proj",
        "layers.{0}.feed_forward.shared_expert.down_proj",
    ),
    "head": ("lm_head",),
}
_PREFIXES = ("", "model.", "language_model.", "model.language_model.", "language_model.model.")
KINDS = tuple(_SAMPLES)

# Regular expressions come from an untrusted file: without a repeated group, a match takes at most
# (length of a name) ^ repeats steps, where (a+)+ would take 2 ^ length.
_LONGEST, _MOST_REPEATS = 1000, 6
_REPEATED_GROUP = re.compile(r"\)\s*[*+{]")
_REPEAT = re.compile(r"(?<!\()[*+?{]")


def matches(kind: str, patterns: Iterable[str], depth: int) -> bool:
    """Whether `patterns` match the modules of this kind of weight in most of the tested blocks.

    Raises ValueError for a regular expression that is invalid or could take too long.
    """
    named = [_readable(pattern) for pattern in patterns]
    blocks = {depth // 4, depth // 2, 3 * depth // 4}
    hits = [any(_hit(pattern, sample.format(i)) for pattern in named for sample in _SAMPLES[kind]) for i in blocks]
    return sum(hits) * 2 > len(hits)


def _readable(pattern: str) -> re.Pattern[str] | str:
    if pattern.startswith("re:"):
        return _compiled(pattern[3:])
    # The prefix before "layers." differs between checkpoints.
    start = pattern.find("layers.")
    return pattern[start:] if start >= 0 else pattern


def _compiled(text: str) -> re.Pattern[str]:
    if len(text) > _LONGEST or _REPEATED_GROUP.search(text) or len(_REPEAT.findall(text)) > _MOST_REPEATS:
        raise ValueError(f"the pattern {shortened(text)!r} repeats too much to be matched in bounded time")
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"the pattern {shortened(text)!r} is no regular expression") from error


def _hit(pattern: re.Pattern[str] | str, name: str) -> bool:
    if isinstance(pattern, re.Pattern):
        return any(pattern.match(prefix + name) for prefix in _PREFIXES)
    if "*" in pattern:
        return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
    # Whole parts of the name: "gate" must not match "gate_proj".
    return f".{pattern}." in f".{name}."
