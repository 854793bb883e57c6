"""Random token ids, alone and packed into windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed

KNOWN_TOKENS = 90
"""of which texts are drawn; the tiny models have some more"""


def drawn_tokens(seed: int, *shape: int) -> Any:
    """Ids 3 to KNOWN_TOKENS - 1."""
    import torch

    return torch.randint(3, KNOWN_TOKENS, shape, generator=torch.Generator().manual_seed(seed))


def packed_text(windows: int, length: int) -> Packed:
    """Random tokens in windows of `length` targets."""
    import numpy as np

    from flashstill.distill.data.packing import Packed

    ones = np.ones((windows, length), dtype=np.int32)
    tokens = drawn_tokens(5, windows, length + 1).numpy().astype(np.int32)
    return Packed(tokens=tokens, target_bytes=ones, target_document=ones - 1)
