"""Students: pruned in depth or width, upcycled to MoE, made dense, quantised, or trained from scratch."""

from flashstill.distill.students.balance import LoadBalance, bias_buffers, check_balance, routers
from flashstill.distill.students.compensated_model import check_compensation, compensated
from flashstill.distill.students.compressed import check_packing, rounded_weights, unrounded_layers, write_compressed
from flashstill.distill.students.densifying import dense_of
from flashstill.distill.students.depth import block_influence, greedy_drops, kept_blocks, order_by_influence
from flashstill.distill.students.quantise import FORMATS, Format, quantise_aware, round_model, settle
from flashstill.distill.students.scratch import from_config, read_fields
from flashstill.distill.students.upcycling import Experts, empty_mixture, upcycle
from flashstill.distill.students.watching import apart
from flashstill.distill.students.width import Plan, Width, importance, narrow, plan

__all__ = [
    "FORMATS",
    "Experts",
    "Format",
    "LoadBalance",
    "Plan",
    "Width",
    "apart",
    "bias_buffers",
    "block_influence",
    "check_balance",
    "check_compensation",
    "check_packing",
    "compensated",
    "dense_of",
    "empty_mixture",
    "from_config",
    "greedy_drops",
    "importance",
    "kept_blocks",
    "narrow",
    "order_by_influence",
    "plan",
    "quantise_aware",
    "read_fields",
    "round_model",
    "rounded_weights",
    "routers",
    "settle",
    "unrounded_layers",
    "upcycle",
    "write_compressed",
]
