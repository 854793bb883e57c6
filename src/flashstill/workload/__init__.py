"""What a phase asks of a machine: operations with FLOPs and bytes. Knows no chip."""

from flashstill.workload.operations import EVEN, Attention, Experts, Matmul, Operation, Quantity, State, Widths
from flashstill.workload.phases import cache_bytes, decode, memory_bytes, prefill, routed_parameters, weight_bytes

__all__ = [
    "EVEN",
    "Attention",
    "Experts",
    "Matmul",
    "Operation",
    "Quantity",
    "State",
    "Widths",
    "cache_bytes",
    "decode",
    "memory_bytes",
    "prefill",
    "routed_parameters",
    "weight_bytes",
]
