"""Turn prompts and their sampled continuations into training windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flashstill.distill.data.pieces import Ints

FILLER = 0  # pads a row after its end; causal attention and the target mask keep it out of the loss


def continued(
    prompts: Sequence[np.ndarray] | np.ndarray, drawn: np.ndarray, length: int
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Token windows [R, length+1] and target mask [R, length] from R prompts of any lengths and sampled ids [R, N].

    Ids after the end of a row are -1; what does not fit a window is cut.  Only sampled ids are targets, not the prompt.
    """
    tokens = np.full((len(prompts), length + 1), FILLER, dtype=np.int32)
    mask = np.zeros((len(prompts), length), dtype=np.bool_)
    for row, (prompt, ids) in enumerate(zip(prompts, drawn, strict=True)):
        begun = len(prompt)
        fits = ids[: length + 1 - begun]
        tokens[row, :begun] = prompt
        tokens[row, begun : begun + len(fits)] = np.where(fits < 0, FILLER, fits)
        mask[row, begun - 1 : begun - 1 + len(fits)] = fits >= 0
    return tokens, mask
