"""Refuses outputs of a teacher that are not finite, naming the teacher, the window and the document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from flashstill.distill.losses.soundness import first_unsound
from flashstill.errors import BadInput


def check_teacher(
    states: Tensor, teacher: str, windows: Sequence[int] | np.ndarray | None, documents: np.ndarray | None
) -> None:
    """BadInput if the teacher's outputs `states` [B, L, ...] on some windows hold a NaN or an infinity.

    teacher: its name; windows [B]: their indices, None for generated text; documents [W, L]: the document of every
    target of the packed text (-1 for a separator), if known.
    """
    place = first_unsound(states.flatten(0, 1))
    if place is None:
        return
    row, token = divmod(place, states.shape[1])
    where = f"token {token} of window {row} of text made during training"
    if windows is not None:
        where = f"token {token} of window {int(windows[row])}"
        if documents is not None and (document := int(documents[int(windows[row]), token])) >= 0:
            where += f", in document {document} of the text"
    raise BadInput(
        f"the teacher {teacher} gives outputs that are not finite (NaN or infinity) at {where}; nothing is wrong with"
        " the student: look at the teacher's weights, or run it in another arithmetic (train.arithmetic)"
    )


def check_head(head: Tensor, teacher: str) -> None:
    """BadInput if a teacher's LM head [V, d] holds a NaN or an infinity."""
    row = first_unsound(head)
    if row is not None:
        raise BadInput(f"the teacher {teacher} has weights that are not finite in its LM head, at token id {row}")
