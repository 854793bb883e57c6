"""Students: cut from the teacher by depth or width, made sparse or dense, or made anew."""

from flashstill.distill.students.depth import block_influence, greedy_drops, kept_blocks, order_by_influence
from flashstill.distill.students.scratch import from_config, read_fields
from flashstill.distill.students.width import Importance, Width, importance, narrow

__all__ = [
    "Importance",
    "Width",
    "block_influence",
    "from_config",
    "greedy_drops",
    "importance",
    "kept_blocks",
    "narrow",
    "order_by_influence",
    "read_fields",
]
