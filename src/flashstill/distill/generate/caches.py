"""Keys and values of rows at work, in memory that is read from one end to the other.

All columns of a cache are read in every step, filled or not: reading the filled ones alone would skip from row to row
and cost two to three times as much (docs/log.md).  So caches are made a little wider than needed and laid out anew
when they are full; the memory stays.
"""

from __future__ import annotations

from torch import Tensor

from flashstill.distill.losses.workspace import Workspace


class Caches:
    """held: each [B, key heads, columns, width]; their memory is the workspace's, so that it may outlive them."""

    def __init__(self, count: int, like: Tensor, space: Workspace) -> None:
        self._like, self._space = like, space
        self._places = list(range(count + 1))  # one spare slot, into which a cache is moved
        self.held = [like.new_empty((0, 0, 0, 0)) for _ in range(count)]

    def lay_out(self, shape: tuple[int, int, int, int], kept: Tensor | None, filled: slice, shift: int) -> None:
        """Rows `kept` (None: all) with their columns `filled`, moved by `shift`, in caches of another shape.

        Everything else is zero: what is masked takes part with a weight of zero, and must be finite.
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
