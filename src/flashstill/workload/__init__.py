"""What a phase asks of a machine: operations with FLOPs and bytes. Knows no chip."""

from flashstill.workload.holdings import cache_bytes, memory_bytes, routed_parameters, weight_bytes
from flashstill.workload.mixed_step import Chunks, Decoding, mixed
from flashstill.workload.operations import EVEN, Attention, Experts, Matmul, Operation, Quantity, State, Widths
from flashstill.workload.phases import decode, prefill

__all__ = [
    "EVEN",
    "Attention",
    "Chunks",
    "Decoding",
    "Experts",
    "Matmul",
    "Operation",
    "Quantity",
    "State",
    "Widths",
    "cache_bytes",
    "decode",
    "memory_bytes",
    "mixed",
    "prefill",
    "routed_parameters",
    "weight_bytes",
]
