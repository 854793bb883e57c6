"""Read stored signals and use them as the teacher of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.losses import DenseTeacher, Head, Sparse
from flashstill.distill.models import STORED
from flashstill.distill.models.devices import current
from flashstill.distill.signals.kinds import sampled_teacher, topk_teacher
from flashstill.distill.signals.making import HEAD, head_of
from flashstill.distill.signals.store import Store, shard, shard_of
from flashstill.distill.training.batches import Batch
from flashstill.errors import BadInput


class Signals:
    """A complete directory of signals, with checksums verified on opening."""

    def __init__(self, directory: Path, key: Mapping[str, Any], dtype: torch.dtype = STORED) -> None:
        """key: from `signal_key`.  dtype: of the products with the teacher's head, which a CPU keeps as it is stored.

        Raises BadInput if the directory has another key, or is incomplete or damaged.
        """
        self._store = Store(directory, key, int(key["windows"]))
        if not self._store.check():
            raise BadInput(f"there are no signals in {directory}; build them first")
        missing = self._store.missing()
        if missing:
            raise BadInput(
                f"signals in {directory} lack {shard(missing[0])} ({len(missing)} of {len(self._store.starts)} shards);"
                " build them first"
            )
        self.kind, self.draws = str(key["kind"]), int(key.get("draws", 0))
        self.head: Head | None = None
        if self.kind == "hidden":
            if not self._store.has(HEAD):
                raise BadInput(f"signals in {directory} lack the teacher's head; build them first")
            stored = self._store.file(HEAD)
            kept = head_of({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
            self.head = kept.kept_narrow(dtype) if current().type == "cpu" else kept.to(dtype)

    @property
    def bytes(self) -> int:
        """Size of the signals on disk in bytes."""
        return self._store.bytes

    def hidden(self, windows: np.ndarray) -> Tensor:
        """Final hidden states [len(windows), L, d]; only for kind "hidden"."""
        return torch.cat([self._rows(int(window), "hidden") for window in windows])

    def target_log_p(self, windows: np.ndarray) -> Tensor:
        """The teacher's log-probability of every target [len(windows), L]; only for signals from a served teacher."""
        return torch.cat([self._rows(int(window), "target_log_p") for window in windows])

    def __call__(self, batch: Batch) -> DenseTeacher | Sparse:
        """The teacher's stored outputs for all tokens of a batch; BadInput if the batch is not from the packed text."""
        if batch.windows is None:
            raise BadInput("stored signals cover the packed text only; text generated during training needs a teacher")
        device = batch.tokens.device
        if self.kind == "hidden":
            assert self.head is not None
            self.head = self.head.to(device)
            return DenseTeacher(hidden=(self.hidden(batch.windows).flatten(0, 1).to(device),), heads=(self.head,))
        sparse = self._sampled(batch.windows) if self.kind == "sampled" else self._topk(batch.windows)
        return Sparse(ids=sparse.ids.to(device), weights=sparse.weights.to(device), tail=sparse.tail)

    def _topk(self, windows: np.ndarray) -> Sparse:
        ids, log_p = (torch.cat([self._rows(int(window), part) for window in windows]) for part in ("ids", "log_p"))
        return topk_teacher(ids.flatten(0, 1), log_p.flatten(0, 1))

    def _sampled(self, windows: np.ndarray) -> Sparse:
        ids, counts, unique = [], [], []
        for window in windows:
            start, place = shard_of(int(window))
            shard_file = self._store.open(start)
            lengths = shard_file.get_tensor("unique")
            ends = lengths.long().sum(-1).cumsum(0)
            last = int(ends[place])
            first = last - int(lengths[place].long().sum())
            ids.append(shard_file.get_slice("ids")[first:last])
            counts.append(shard_file.get_slice("counts")[first:last])
            unique.append(lengths[place])
        return sampled_teacher(torch.cat(ids), torch.cat(counts), torch.cat(unique), self.draws)

    def _rows(self, window: int, part: str) -> Tensor:
        start, place = shard_of(window)
        rows: Tensor = self._store.open(start).get_slice(part)[place : place + 1]
        return rows
