"""What a field may hold at most, and how a value is shown in a sentence, so that no config fills memory or screen."""

from __future__ import annotations

import re
from typing import Any

from flashstill.errors import shortened

_MOST = 10**8
_DEEPEST = 10_000  # blocks are listed one by one, so that a nonsense depth must not fill the memory
# What a count may be at most, by words of its name: several times what any published model has, and small enough that
# nothing that is listed or drawn for each layer, head or expert fills the memory.
_MOST_OF = (
    (re.compile(r"vocab"), 10**8),
    (re.compile(r"expert|top_?k"), 100_000),
    (re.compile(r"_period|_offset|_interval|_freq|_step"), _DEEPEST),
    (re.compile(r"layer"), _DEEPEST),
    (re.compile(r"heads?$|n_head"), 100_000),
    (re.compile(r"position|model_max_length|max_sequence|seq_length|window|chunk"), 10**10),
    (re.compile(r"hidden_size|n_embd|n_embed|d_model|_dim$|_rank$|kernel|conv|groups"), 10**7),
)


def most_of(name: str) -> int:
    """The largest number that a field of this name may hold."""
    return next((most for words, most in _MOST_OF if words.search(name)), _MOST)


def shown(value: Any) -> str:
    """A value as a sentence shows it: never long, whatever a config holds."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"a number of about {int(abs(value).bit_length() * 0.30103) + 1} digits"
    if isinstance(value, list | dict) and len(value) > 12:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
    return shortened(repr(value))
