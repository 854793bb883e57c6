"""How many tokens the fused loss processes at once, at three nested sizes.

    group   1,024 tokens: student logits, overwritten row by row with the gradient with respect to them
    block   256 tokens: teacher logits; a smaller matrix product would be slower
    strip   16 tokens: softmaxes and divergences in float32, in buffers that fit in the CPU cache

The sizes were measured at one vocabulary; with a smaller one more tokens take the same memory.
"""

from __future__ import annotations

from dataclasses import dataclass

MEASURED_VOCABULARY = 49_152


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunks:
    """Chunk sizes in tokens; the defaults were the fastest on two CPU cores with a 49,152 x 576 head (docs/log.md)."""

    group: int = 1024
    block: int = 256
    strip: int = 16

    def of(self, vocabulary: int, on_cpu: bool) -> Chunks:
        """The sizes adapted to a vocabulary: at most 2^27 logits per group; on a GPU, strips as large as blocks."""
        group = max(self.strip, min(self.group, 2**27 // vocabulary))
        block = min(self.block, group)
        return Chunks(group=group, block=block, strip=min(self.strip, block) if on_cpu else block)


ON_GPU = Chunks(group=2048, block=1024, strip=1024)
"""between sizes that were 9 and 15 % faster than those for a CPU, on an H200 with the same head (docs/log.md)"""


def usual_chunks(vocabulary: int, element_bytes: int, on_cpu: bool) -> Chunks:
    """Default chunk sizes, with more tokens for smaller vocabularies so that the number of logits stays the same, and
    groups of one block for formats wider than 16 bits, where they are as fast; on a GPU larger ones."""
    if not on_cpu:
        share = MEASURED_VOCABULARY / vocabulary
        block = max(Chunks().block, int(ON_GPU.block * share))
        group = max(block, int(2 * ON_GPU.group / element_bytes * max(1.0, share)))
        return Chunks(group=group, block=block, strip=block)
    usual, more = Chunks(), max(1, MEASURED_VOCABULARY // vocabulary)
    group = usual.group if element_bytes <= 2 else usual.block
    return Chunks(group=group * more, block=usual.block * more, strip=usual.strip * more)
