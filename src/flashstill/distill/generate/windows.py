"""Prompts and what was drawn after them, as windows to learn from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flashstill.distill.data.packing import Ints

FILLER = 0  # behind the end of a row: nothing before it sees it, and it is no target


def continued(prompts: np.ndarray, drawn: np.ndarray, length: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Windows [R, length+1] of prompts [R, P] and ids [R, N] drawn after them, -1 behind the end; and the mask
    [R, length] of their targets: exactly the ids that were drawn."""
    rows, begun = prompts.shape
    end = begun + drawn.shape[1]
    tokens = np.full((rows, length + 1), FILLER, dtype=np.int32)
    mask = np.zeros((rows, length), dtype=np.bool_)
    tokens[:, :begun] = prompts
    tokens[:, begun:end] = np.where(drawn < 0, FILLER, drawn)
    mask[:, begun - 1 : end - 1] = drawn >= 0
    return tokens, mask
