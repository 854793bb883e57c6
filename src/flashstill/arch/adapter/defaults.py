"""What transformers fills in where a config leaves a field out and its readers here would not.

Nested text parts leave out whatever equals these values; other files do where older versions wrote them.
"""

from __future__ import annotations

from typing import Any

DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "sliding_window": 4096,
        "max_position_embeddings": 131072,
    },
}
