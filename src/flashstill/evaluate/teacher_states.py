"""A teacher's final hidden states on a packed text, kept in memory so that it need not be loaded with other models.

bytes = tokens x d x bytes per element of its dtype
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import DenseTeacher, Head
from flashstill.distill.models import Model, parts
from flashstill.distill.models.host_memory import host_bytes
from flashstill.distill.signals import hidden_states
from flashstill.distill.signals.making import check_head
from flashstill.distill.training import Batch, take
from flashstill.errors import BadInput
from flashstill.evaluate.readers import windows_scored_at_once
from flashstill.progress import Advance
from flashstill.units import show

SHARE_OF_MEMORY = 0.5


class TeacherStates:
    """hidden [W, L, d]: final hidden states of every window of a text; head [V, d]; see token_scores.TeacherOnText."""

    def __init__(self, hidden: Tensor, head: Head) -> None:
        self.hidden = hidden
        self.head: Head | None = head

    def __call__(self, batch: Batch) -> DenseTeacher:
        """The teacher's logits, from hidden states, on the windows of a batch."""
        assert batch.windows is not None
        assert self.head is not None
        return DenseTeacher(hidden=(self.hidden[batch.windows].flatten(0, 1),), heads=(self.head,))

    def target_log_p(self, windows: np.ndarray) -> Tensor:
        """Not needed: the full distribution is known."""
        raise NotImplementedError


def run_teacher(model: Model, packed: Packed, advance: Advance) -> TeacherStates:
    """Run the teacher on all windows; final hidden states in its dtype.

    Raises UnsupportedArchitecture if its logits are not those of a head, BadInput if the states exceed half of this
    machine's memory.
    """
    head = parts(model).head.detach()
    check_head(model, packed)
    size = float(packed.token_count * head.shape[1] * head.weight.element_size())
    room = SHARE_OF_MEMORY * host_bytes()
    if size > room:
        raise BadInput(
            f"the teacher's states on {packed.token_count:,} tokens take {show(size, 'B')}, more than half of this"
            f" machine's memory; give --tokens at most {int(packed.token_count * room / size):,}"
        )
    pieces = []
    step = windows_scored_at_once(model.device, packed)
    with torch.inference_mode():
        for start in range(0, packed.windows, step):  # the same batches as in scoring
            batch = take(packed, np.arange(start, min(start + step, packed.windows)))
            pieces.append(hidden_states(model, batch.inputs.to(model.device), batch.starts).cpu())
            advance(batch.targets.numel())
    return TeacherStates(torch.cat(pieces), head)
