"""The defaults of transformers for absent config fields: facts/config_defaults.json.

The file is written by scripts/config-defaults.  A text config nested in a multimodal config omits every field equal to
its default, even width and depth.  A top-level config must state its widths and counts; one that does not is rejected
rather than filled with those of another model.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from flashstill.arch.adapter.fields import CHOSEN, DEPTH, EXPERTS, HEADS, WIDTH

_FILE = Path(__file__).parents[2] / "facts" / "config_defaults.json"
_OWN = {*WIDTH, *DEPTH, *HEADS, *EXPERTS, *CHOSEN, "vocab_size", "intermediate_size", "moe_intermediate_size"}
_LIKE = {
    "code_llama": "llama",
    "kimi_k2": "deepseek_v3",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_vl": "qwen2_vl_text",
    "minimax_m1": "minimax",
    "minimax_text_01": "minimax",
}


@cache
def _rows() -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return rows


def defaults_of(kind: str, *, nested: bool) -> dict[str, Any]:
    """Defaults of a model_type. nested: include widths and counts, which a top-level config must state itself."""
    row = _rows().get(_LIKE.get(kind, kind), {})
    return row if nested else {name: value for name, value in row.items() if name not in _OWN}
