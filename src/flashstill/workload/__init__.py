"""Workload of each phase: operations with FLOPs and bytes, independent of the chip."""

from flashstill.workload.experts import EVEN, Experts, Routed
from flashstill.workload.mixed_step import Chunks, Decoding, mixed
from flashstill.workload.operations import Attention, Matmul, Operation, Quantity, Widths, is_any, matmul
from flashstill.workload.phases import decode, prefill
from flashstill.workload.recurrence import State
from flashstill.workload.sparse import IndexScores, SmallKernels
from flashstill.workload.stored_bytes import (
    cache_bytes,
    expert_copy_parameters,
    memory_bytes,
    routed_parameters,
    state_bytes,
    weight_bytes,
)

__all__ = [
    "EVEN",
    "Attention",
    "Chunks",
    "Decoding",
    "Experts",
    "IndexScores",
    "Matmul",
    "Operation",
    "Quantity",
    "Routed",
    "SmallKernels",
    "State",
    "Widths",
    "cache_bytes",
    "decode",
    "expert_copy_parameters",
    "is_any",
    "matmul",
    "memory_bytes",
    "mixed",
    "prefill",
    "routed_parameters",
    "state_bytes",
    "weight_bytes",
]
