"""Divergences between teacher and student over the full vocabulary or a sparse set of ids, fused with the LM head."""

from flashstill.distill.losses.chunk_sizes import Chunks, usual_chunks
from flashstill.distill.losses.dense import (
    Divergence,
    cross_entropy,
    divergence,
    forward_kl,
    generalised_jsd,
    kl_of_log_probabilities,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    soft_cross_entropy,
    total_variation,
)
from flashstill.distill.losses.head import Term, head_loss
from flashstill.distill.losses.logits import Head, as_head
from flashstill.distill.losses.span_terms import SpanTeacher, span_divergence
from flashstill.distill.losses.sparse import Sparse, one_hot, sparse_loss
from flashstill.distill.losses.teacher import DenseTeacher, RoutedTeacher
from flashstill.distill.losses.workspace import Workspace

__all__ = [
    "Chunks",
    "DenseTeacher",
    "Divergence",
    "Head",
    "RoutedTeacher",
    "SpanTeacher",
    "Sparse",
    "Term",
    "Workspace",
    "as_head",
    "cross_entropy",
    "divergence",
    "forward_kl",
    "generalised_jsd",
    "head_loss",
    "kl_of_log_probabilities",
    "one_hot",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "soft_cross_entropy",
    "span_divergence",
    "sparse_loss",
    "total_variation",
    "usual_chunks",
]
