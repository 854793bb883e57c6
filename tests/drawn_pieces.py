"""Random pieces, for hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from flashstill.distill.data.pieces import Piece


@st.composite
def some_pieces(draw: st.DrawFn) -> list[Piece]:
    pieces = []
    for _ in range(draw(st.integers(1, 6))):
        tokens = np.asarray(draw(st.lists(st.integers(0, 2), min_size=2, max_size=9)), dtype=np.int32)
        sizes = np.asarray(draw(st.lists(st.integers(-1, 3), min_size=len(tokens), max_size=len(tokens))))
        counts = draw(st.none() | st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
        mask = None if counts is None else np.asarray(counts)
        pieces.append(Piece(tokens=tokens, target_bytes=sizes.astype(np.int32), counts=mask))
    return pieces
