"""A served teacher that is asked in every step of training, and so also grades what the student wrote.

Only the documents that the loss learns from are sent, each up to its last target that counts: a text that ended early
is not graded behind its end.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from torch import Tensor

from flashstill.distill.losses import Sparse
from flashstill.distill.signals.kinds import topk_teacher
from flashstill.distill.teachers.served.answers import Reading, no_scores
from flashstill.distill.teachers.served.client import STEPS_KEPT, Conversation, Server, completed, together
from flashstill.distill.teachers.served.making import scores_of
from flashstill.distill.training.batches import Batch
from flashstill.errors import BadInput
from flashstill.progress import Progress

Place = tuple[int, slice]
"""a row of a batch, and inputs of one of its documents"""


class ServedTeacher:
    """A teacher source (training/objectives.py): the k likeliest ids of every target and the mass of all others.

    tokenizer: of student and teacher.  A call raises BadInput if the server refuses, keeps failing, or returns no valid
    distribution over the tokenizer's vocabulary.
    """

    def __init__(self, server: Server, k: int, tokenizer: Any, progress: Progress) -> None:
        self.server, self.k, self.vocabulary = server, k, len(tokenizer)
        self._progress, self._reading = progress, Reading(server, tokenizer, progress)

    def __call__(self, batch: Batch) -> Sparse:
        count, length = batch.mask.shape
        ids, log_p = no_scores((count, length), self.k)
        completed(self._graded(batch, ids, log_p))
        sparse = topk_teacher(ids.flatten(0, 1), log_p.flatten(0, 1))
        device = batch.tokens.device
        return Sparse(ids=sparse.ids.to(device), weights=sparse.weights.to(device), tail=sparse.tail)

    async def _graded(self, batch: Batch, ids: Tensor, log_p: Tensor) -> None:
        """Ask for all documents of a batch, several at a time, and write their scores into ids and log_p [B, L, k]."""
        tokens, places = batch.tokens.cpu(), learned_documents(batch)
        async with Conversation(self.server, self._progress.say, STEPS_KEPT) as talk:

            async def one(which: int) -> None:
                row, part = places[which]
                asked = tokens[row, part.start : part.stop + 1].tolist()
                try:
                    answer = await scores_of(talk, asked, self.k, self.vocabulary)
                except BadInput as error:
                    whose = "what the student wrote" if batch.own is not None and bool(batch.own[row]) else "the text"
                    raise BadInput(f"{whose} could not be graded: {error}") from error
                self._reading.check(answer.text, asked[1:])
                ids[row, part], log_p[row, part] = answer.ids, answer.log_p

            await together(iter(range(len(places))), self.server.in_flight, one)


def learned_documents(batch: Batch) -> list[Place]:
    """The documents of a batch with targets that are learned, each cut behind the last of them."""
    mask = batch.mask.cpu().numpy() > 0
    starts = np.zeros_like(mask) if batch.starts is None else batch.starts.cpu().numpy() != 0
    places: list[Place] = []
    for row, learned in enumerate(mask):
        edges = sorted({0, *np.flatnonzero(starts[row]).tolist(), len(learned)})
        for first, behind in itertools.pairwise(edges):
            last = np.flatnonzero(learned[first:behind])
            if len(last):
                places.append((row, slice(first, first + int(last[-1]) + 1)))
    return places
