"""What a phase asks of a machine: operations with FLOPs and bytes. Knows no chip."""

from flashstill.workload.operations import Operation, Quantity, Widths
from flashstill.workload.phases import decode, memory_bytes, prefill

__all__ = ["Operation", "Quantity", "Widths", "decode", "memory_bytes", "prefill"]
