"""Upper limits of config fields, so that no config can exhaust memory."""

from __future__ import annotations

import re

_MOST = 10**8
_DEEPEST = 10_000  # one object per block: an absurd depth would exhaust memory
# Largest accepted count, by words in the field name: several times that of any published model, and small enough that
# per-layer, per-head or per-expert data does not exhaust memory.
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
    """The largest count accepted in a field of this name."""
    return next((most for words, most in _MOST_OF if words.search(name)), _MOST)
