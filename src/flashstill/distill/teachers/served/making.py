"""Build top-k signals from a served teacher, shard by shard.

A shard is written when all its windows are answered; a build that was killed repeats only the requests of unfinished
shards.  Each shard also stores the teacher's log-probability of every target (its negative is the teacher's NLL).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.data.views import View
from flashstill.distill.signals.kinds import TopK, narrowest
from flashstill.distill.signals.making import Built
from flashstill.distill.signals.store import Store, shard, shard_of
from flashstill.distill.teachers.served.answers import (
    PADDED_ROWS,
    Reading,
    TokenScores,
    check_possible,
    checked,
    no_scores,
)
from flashstill.distill.teachers.served.client import SHARDS_KEPT, Conversation, Server, completed, together
from flashstill.errors import BadInput
from flashstill.progress import Advance, Progress

BYTES_PER_ENTRY = 1024
"""limit on the size of one entry (id, log-probability, rank and text) in a response"""


def known_model(name: str) -> str:
    """Stands in for the model fingerprint of a served teacher, whose weights cannot be read; name: its model name."""
    return f"served: {name}"


def build_from_server(
    server: Server,
    kind: TopK,
    key: Mapping[str, Any],
    packed: Packed,
    tokenizer: Any,
    directory: Path,
    progress: Progress,
    name: str,
    share: tuple[int, int] = (0, 1),
    view: View | None = None,
) -> Built:
    """Build the missing shards in `directory`; with share = (i, n), only the shards i, i + n, i + 2n, ...

    tokenizer: the one that the packing was made with; view: what the teacher reads, if not the packed
    text.  Raises BadInput if the server refuses, keeps failing, or returns
    no valid distribution over its vocabulary, or if the directory was built with another key.
    """
    store = Store(directory, key, packed.windows)
    store.begin()
    missing = store.missing(share)
    if not missing:
        return Built(tokens=0, seconds=0.0, bytes=store.bytes)
    whole, left = (
        sum(len(store.range(start)) for start in each) * packed.length for each in (store.shared(share), missing)
    )
    started = time.perf_counter()
    with progress.task(name, whole, "tokens", whole - left) as advance:
        work = _Asking(server, kind, packed, tokenizer, store, advance, progress, view)
        completed(work.all(missing))
    return Built(tokens=left, seconds=time.perf_counter() - started, bytes=store.bytes)


async def scores_of(talk: Conversation, tokens: Sequence[int], k: int, vocabulary: int) -> TokenScores:
    """The teacher's scores of a document's tokens; BadInput if the server refuses, or returns no valid distribution."""
    asking = talk.server.asking
    question = asking.question(talk.server.name, tokens, k)
    answer = await talk.ask(question, k, BYTES_PER_ENTRY * (k + 2) * (len(tokens) + 2))
    return checked(answer, asking, tokens, k, vocabulary)


class _Asking:
    """The state of one build, including answers that wait for the rest of their shard."""

    def __init__(
        self,
        server: Server,
        kind: TopK,
        packed: Packed,
        tokenizer: Any,
        store: Store,
        advance: Advance,
        progress: Progress,
        view: View | None = None,
    ) -> None:
        self.view, self._text_length = view, packed.length
        packed = view.packed if view else packed
        self.server, self.kind, self.packed, self.store = server, kind, packed, store
        self.advance, self._reading = advance, Reading(server, tokenizer, progress)
        self.vocabulary = len(tokenizer)
        self._held: dict[int, TokenScores] = {}

    async def all(self, starts: Sequence[int]) -> None:
        """Request all windows of these shards; the first alone, so that a wrong setup fails after one request."""
        async with Conversation(self.server, lambda text: self.advance(0, text), SHARDS_KEPT) as talk:
            self._check_context(await talk.longest())
            windows = iter([window for start in starts for window in self.store.range(start)])
            first = next(windows)
            answer = await self._ask(talk, first)
            if not self.view:
                self._reading.check(answer.text, self.packed.tokens[first, 1:].tolist())
            self._done(first, answer)

            async def one(window: int) -> None:
                self._done(window, await self._ask(talk, window))

            await together(windows, self.server.in_flight, one)

    async def _ask(self, talk: Conversation, window: int) -> TokenScores:
        """The scores of a window; each of its documents is asked for by itself."""
        documents = self.packed.documents_in(window)
        if self.view:
            return await self._ask_view(talk, window, documents, self.view.place[window])
        answers = [await self._ask_document(talk, window, part) for part in documents]
        texts = [answer.text for answer in answers]
        return TokenScores(
            ids=torch.cat([answer.ids for answer in answers]),
            log_p=torch.cat([answer.log_p for answer in answers]),
            target_log_p=torch.cat([answer.target_log_p for answer in answers]),
            text=None if None in texts else "".join(map(str, texts)),
        )

    async def _ask_view(
        self, talk: Conversation, window: int, documents: Sequence[slice], place: np.ndarray
    ) -> TokenScores:
        """The scores of the student's targets, from the documents that hold them; others get the first id for sure."""
        count, k = len(place), self.kind.k
        ids, log_p = no_scores((count,), k)
        target_log_p = torch.zeros(count)
        for part in documents:
            here = np.flatnonzero((place >= part.start) & (place < part.stop))
            if len(here):
                answer = await self._ask_document(talk, window, part)
                self._reading.check(answer.text, self.packed.tokens[window, part.start + 1 : part.stop + 1].tolist())
                rows, own = torch.from_numpy(here), torch.from_numpy(place[here] - part.start).long()
                ids[rows], log_p[rows] = answer.ids[own], answer.log_p[own]
                target_log_p[rows] = answer.target_log_p[own]
        return TokenScores(ids=ids, log_p=log_p, target_log_p=target_log_p, text=None)

    async def _ask_document(self, talk: Conversation, window: int, part: slice) -> TokenScores:
        """The scores of the targets of a document's inputs `part`."""
        tokens = self.packed.tokens[window, part.start : part.stop + 1].tolist()
        try:
            answer = await scores_of(talk, tokens, self.kind.k, self.vocabulary)
            check_possible(answer)
            return answer
        except BadInput as error:
            documents = sorted({int(each) for each in self.packed.target_document[window] if each >= 0})
            of = f" (document {', '.join(map(str, documents[:4]))} of the text)" if documents else ""
            raise BadInput(
                f"the teacher at {self.server.base} cannot be used for window {window}{of}: {error}"
            ) from error

    def _done(self, window: int, answer: TokenScores) -> None:
        """Store a window's answer, and write its shard if it is now complete."""
        self._held[window] = answer
        self.advance(self._text_length)
        start, _ = shard_of(window)
        windows = self.store.range(start)
        if any(each not in self._held for each in windows):
            return
        answers = [self._held.pop(each) for each in windows]
        tensors = {
            "ids": torch.stack([each.ids for each in answers]).to(narrowest(self.vocabulary + PADDED_ROWS)),
            "log_p": torch.stack([each.log_p for each in answers]).half(),
            "target_log_p": torch.stack([each.target_log_p for each in answers]),
        }
        self.store.write(shard(start), tensors)

    def _check_context(self, longest: int | None) -> None:
        tokens = self.packed.length + 1 + self.server.asking.answer_tokens
        if self.view:  # asked for document by document
            parts = [part for window in range(self.packed.windows) for part in self.packed.documents_in(window)]
            tokens = max(part.stop - part.start for part in parts) + 1 + self.server.asking.answer_tokens
        if longest is None or tokens <= longest:
            return
        if self.view:
            raise BadInput(
                f"with its system prompt {self.server.name} at {self.server.base} reads conversations of {tokens}"
                f" tokens, but takes {longest}; lower text.window_tokens, or start it with more (--max-model-len)"
            )
        fits = longest - tokens + self.packed.length
        raise BadInput(
            f"a window needs {tokens} tokens, but {self.server.name} at {self.server.base} takes {longest}; lower"
            f" text.window_tokens to {fits}, or start it with more (--max-model-len)"
        )
