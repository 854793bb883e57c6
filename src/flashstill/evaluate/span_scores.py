"""A model against a teacher with another tokenizer, on aligned spans of text (distill/losses/span_terms.py).

    KL on spans         forward KL over common ids and a bucket for the rest, where both sides have one token; else over
                        whether the span is written as it is; nats a span
    agreement on spans  of spans of one token on both sides, the share where the likeliest ids stand for the same bytes

Neither compares with figures of one tokenizer: their metrics have names of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import SpanTeacher, forward_kl
from flashstill.distill.losses.span_terms import over_events
from flashstill.distill.losses.spans import both_sides, chunks_of
from flashstill.distill.models import Model, parts
from flashstill.distill.models.documents import states_of
from flashstill.distill.training import Batch, take
from flashstill.evaluate.readers import windows_scored_at_once
from flashstill.evaluate.summary import COLUMNS, Sums, metric_records
from flashstill.progress import Advance
from flashstill.records import QualityRecord

NAMES = {"kl_to_teacher": "kl_on_spans", "agreement": "agreement_on_spans"}


def score_spans(
    model: Model, packed: Packed, source: Callable[[Batch], SpanTeacher], advance: Advance
) -> dict[str, Sums]:
    """Sums per document (evaluate/summary.py) for the KL, over all spans, and for the agreement, over single ones."""
    rows: list[tuple[int, float, float, float]] = []
    known = parts(model)
    head = known.head.detach().widened()
    step = windows_scored_at_once(model.device, packed)
    with torch.inference_mode():
        for start in range(0, packed.windows, step):
            batch = take(packed, np.arange(start, min(start + step, packed.windows))).to(model.device)
            teacher = source(batch)
            hidden = states_of(known, batch.inputs, batch.starts).flatten(0, 1).float()
            documents = packed.target_document[start : start + len(batch.tokens)].ravel()
            same = torch.full((teacher.teacher.heads[0].shape[0],), -1, device=model.device)
            same[teacher.known_common] = teacher.common
            for chunk in chunks_of(teacher, head.rows):
                theirs, own = both_sides(teacher, hidden[chunk.own], head, chunk, 1.0)
                kl = over_events(forward_kl, theirs, own, teacher)
                agrees = same[theirs.log_p.argmax(-1)] == own.log_p.argmax(-1)
                single = theirs.single & own.single
                owner = documents[chunk.last.cpu().numpy()]
                values = zip(owner.tolist(), kl.tolist(), agrees.tolist(), single.tolist(), strict=True)
                rows += [each for each in values if each[0] >= 0]  # without the ends of documents
            advance(batch.targets.numel())
    return {"kl_to_teacher": _sums(rows, 1, None), "agreement": _sums(rows, 2, 3)}


def _sums(rows: list[tuple[int, float, float, float]], column: int, among: int | None) -> Sums:
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 4)
    table = table if among is None else table[table[:, among] > 0]
    _, owner = np.unique(table[:, 0], return_inverse=True)
    sums = np.zeros((int(owner.max(initial=-1)) + 1, len(COLUMNS)))
    sums[:, column] = np.bincount(owner, weights=table[:, column])  # columns 1 and 2 are those of KL and agreement
    sums[:, 4] = np.bincount(owner)
    return sums


def span_records(sums: dict[str, Sums], model: str, domain: str, seed: int) -> list[QualityRecord]:
    """The records of both metrics; of spans instead of tokens."""
    records: list[QualityRecord] = []
    for metric, each in sums.items():
        if len(each):
            found = metric_records(each, [metric], model, domain, seed)
            records += [dataclasses.replace(record, metric=NAMES[metric]) for record in found]
    return records
