"""The KV cache of a batch of rows, laid out for contiguous reads.

A column is one token position.  Every step reads all columns of a cache, filled or not: reading only the filled ones
would be strided and two to three times as slow (docs/log.md).  Caches are therefore allocated only a little wider than
needed and laid out again, in reused memory, when they are full.
"""

from __future__ import annotations

from torch import Tensor

from flashstill.distill.losses.workspace import Workspace


class Caches:
    """`count` tensors in `held`, each [B, KV heads, columns, head width], in buffers that the workspace reuses."""

    def __init__(self, count: int, like: Tensor, space: Workspace) -> None:
        self._like, self._space = like, space
        self._places = list(range(count + 1))  # one spare buffer, as the target of the next copy
        self.held = [like.new_empty((0, 0, 0, 0)) for _ in range(count)]

    def lay_out(self, shape: tuple[int, int, int, int], kept: Tensor | None, filled: slice, shift: int) -> None:
        """Copy the columns `filled` of rows `kept` (None: all), shifted by `shift`, into new caches of shape `shape`.

        All else is set to zero: masked columns have attention weight 0, but their values must be finite (0 * inf is
        NaN).
        """
        to = slice(filled.start + shift, filled.stop + shift)
        for index, old in enumerate(self.held):
            place = self._places[-1]
            new = self._space.take(f"cache {place}", shape, self._like.dtype, self._like.device)
            rows = len(old) if kept is None else len(kept)
            new[:rows, :, : to.start] = 0
            new[:rows, :, to.stop :] = 0
            new[rows:] = 0
            if rows:
                new[:rows, :, to] = old[:, :, filled] if kept is None else old[kept, :, filled]
            self.held[index] = new
            self._places[index], self._places[-1] = place, self._places[index]
