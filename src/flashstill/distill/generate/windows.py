"""Turn prompts and their sampled continuations into training windows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flashstill.distill.data.pieces import Ints

FILLER = 0  # pads a row after its end; causal attention and the target mask keep it out of the loss


def continued(prompts: np.ndarray, drawn: np.ndarray, length: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Token windows [R, length+1] and target mask [R, length] from prompts [R, P] and sampled ids [R, N].

    Ids after the end of a row are -1.  Only sampled ids are targets; the prompt is not.
    """
    rows, begun = prompts.shape
    end = begun + drawn.shape[1]
    tokens = np.full((rows, length + 1), FILLER, dtype=np.int32)
    mask = np.zeros((rows, length), dtype=np.bool_)
    tokens[:, :begun] = prompts
    tokens[:, begun:end] = np.where(drawn < 0, FILLER, drawn)
    mask[:, begun - 1 : end - 1] = drawn >= 0
    return tokens, mask
