"""Chains of thought: N attempts of a model at every problem and the verdicts on them, stored in shards.

    chains/    tokens [P, N, T], padded with -1; log_p [P, N]: sum of log-probabilities; lengths [P, N]
    verdicts/  score [P, N]; outcome [P, N]: index into OUTCOMES; said [P, N]: index of the first attempt at the
               problem with the same answer, -1 if there is no answer

The random stream of attempt a at problem p depends on (seed, p, a) only.  The first N of 64 attempts therefore equal
those of a run with N attempts, and an interrupted run samples only the missing shards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flashstill.distill.data.templates import template_of
from flashstill.distill.generate import Sampling, sample
from flashstill.distill.models import Model
from flashstill.distill.reasoning.chats import as_chats
from flashstill.distill.reasoning.judging import OUTCOMES, Judges
from flashstill.distill.reasoning.matching import Extract
from flashstill.distill.reasoning.problems import Problem
from flashstill.distill.signals.store import Store, shard
from flashstill.errors import BadInput, ran_out_of_memory
from flashstill.progress import Progress

ROWS_AT_A_TIME = 8192
MOST_ATTEMPTS = 2**16  # problem p, attempt a is row p * MOST_ATTEMPTS + a of the sampler


@dataclass(frozen=True, kw_only=True, slots=True)
class Chains:
    """tokens [P, N, T] in int32, padded with -1; log_p [P, N]; lengths [P, N], including the stop id."""

    tokens: npt.NDArray[np.int32]
    log_p: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int32]

    @property
    def attempts(self) -> int:
        """Attempts at each problem, N."""
        return int(self.tokens.shape[1])

    def first(self, attempts: int) -> Chains:
        """The first `attempts` attempts at every problem."""
        return Chains(
            tokens=self.tokens[:, :attempts], log_p=self.log_p[:, :attempts], lengths=self.lengths[:, :attempts]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdicts:
    """All [P, N]. outcome: index into OUTCOMES; said: equal for equal answers to a problem, -1 for no answer."""

    score: npt.NDArray[np.float32]
    outcome: npt.NDArray[np.uint8]
    said: npt.NDArray[np.int64]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each attempt is right, [P, N]."""
        is_right: npt.NDArray[np.bool_] = self.score == 1.0
        return is_right

    def first(self, attempts: int) -> Verdicts:
        """The verdicts on the first `attempts` attempts at every problem."""
        return Verdicts(
            score=self.score[:, :attempts], outcome=self.outcome[:, :attempts], said=self.said[:, :attempts]
        )

    @property
    def counts(self) -> dict[str, int]:
        """Number of judged answers by outcome; equal answers to a problem count once."""
        asked = self.outcome[self.said == np.arange(self.said.shape[1])]
        return {name: int((asked == place).sum()) for place, name in enumerate(OUTCOMES)}


def encoded_prompts(problems: Sequence[Problem], tokenizer: Any, chat: bool = False) -> list[list[int]]:
    """Token ids of every prompt: as a user message in the chat template if `chat`, else after the BOS token, if any.

    Raises BadInput if `chat` is set and there is no template."""
    if chat:
        if (template := template_of(tokenizer)) is None:
            raise BadInput("task.chat is true, but the teacher's tokenizer has no chat template")
        tokens = tokenizer.special_tokens_map.items()
        named = {name: [*map(str, token)] if isinstance(token, list) else str(token) for name, token in tokens if token}
        texts = as_chats([each.prompt for each in problems], template.source, named)
        chat_ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return chat_ids
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    plain_ids: list[list[int]] = tokenizer([each.prompt for each in problems], add_special_tokens=False)["input_ids"]
    return [begin + ids for ids in plain_ids]


def problems_hash(problems: Sequence[Problem]) -> str:
    """SHA-256 of the problems, part of the key of chains and verdicts."""
    return hashlib.sha256(json.dumps([asdict(problem) for problem in problems]).encode()).hexdigest()


@contextmanager
def memory_for(how: Sampling) -> Iterator[None]:
    """Context of sampling: running out of memory becomes a BadInput that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        raise BadInput(
            f"out of memory with {how.batch:,} texts sampled at a time; lower think.rows_at_a_time: the same command"
            " then goes on from what is kept"
        ) from error


def chain_key(model: str, tokenizer: str, problems: Sequence[Problem], attempts: int, how: Sampling) -> dict[str, Any]:
    """The key of stored chains. model, tokenizer: fingerprints."""
    settings = how.key
    known = {"kind": "chains", "model": model, "tokenizer": tokenizer, "problems": problems_hash(problems)}
    return json.loads(json.dumps({**known, "attempts": attempts, **settings}))  # type: ignore[no-any-return]


def think(
    model: Model,
    prompts: Sequence[Sequence[int]],
    attempts: int,
    how: Sampling,
    key: Mapping[str, Any],
    directory: Path,
    progress: Progress,
    name: str,
    share: tuple[int, int] = (0, 1),
) -> Chains | None:
    """Sample `attempts` attempts at every prompt; existing shards are kept.

    share: (i, n) samples only shards i, i + n, i + 2n, ...; returns None while other shards are missing.  Raises
    BadInput if the directory belongs to a different run.
    """
    if not 1 <= attempts < MOST_ATTEMPTS:
        raise BadInput(f"the attempts at a problem are {attempts}; give 1 to {MOST_ATTEMPTS - 1}")
    store = Store(directory, key, len(prompts), what="chains")
    store.begin()
    missing = store.missing(share)
    whole, left = (sum(len(store.range(start)) for start in each) for each in (store.shared(share), missing))
    together = max(1, ROWS_AT_A_TIME // (attempts * len(store.range(0))))
    with progress.task(name, whole * attempts, "chains", (whole - left) * attempts) as advance:
        for first in range(0, len(missing), together):
            starts = missing[first : first + together]
            places = [place for start in starts for place in store.range(start)]
            rows = [place * MOST_ATTEMPTS + attempt for place in places for attempt in range(attempts)]
            given = [prompts[place] for place in places for _ in range(attempts)]
            with memory_for(how):
                samples = sample(model, given, how, rows, advance)
            tokens = torch.from_numpy(samples.tokens).view(len(places), attempts, -1)
            log_p = torch.from_numpy(samples.log_p).sum(-1).view(len(places), attempts)
            lengths = torch.from_numpy(samples.lengths.astype(np.int32)).view(len(places), attempts)
            for start in starts:
                own = slice(places.index(start), places.index(start) + len(store.range(start)))
                store.write(shard(start), {"tokens": tokens[own], "log_p": log_p[own], "lengths": lengths[own]})
    return None if store.missing() else joined_chains(store)


def judge(
    chains: Chains,
    texts: Sequence[Sequence[str]],
    extract: Extract,
    judges: Judges,
    key: Mapping[str, Any],
    directory: Path,
    progress: Progress,
    name: str,
) -> Verdicts:
    """Judge every attempt; verdicts are stored in shards. texts [P][N]: the decoded chains."""
    store = Store(directory, key, len(texts), what="verdicts")
    store.begin()
    missing = store.missing()
    questions: dict[int, list[tuple[int, str | None]]] = {
        start: [(place, extract(text)) for place in store.range(start) for text in texts[place]] for start in missing
    }
    total = sum(len({pair for pair in asked if pair[1] is not None}) for asked in questions.values())
    with progress.task(name, max(1, total), "answers") as advance:
        for start in missing:
            verdicts = judges(questions[start], advance)
            shape = (len(store.range(start)), chains.attempts)
            outcomes = [OUTCOMES.index(verdict.outcome) for verdict in verdicts]
            same_answers = _same_answers([text for _, text in questions[start]], chains.attempts)
            tensors = {
                "score": torch.tensor([verdict.score for verdict in verdicts], dtype=torch.float32).view(shape),
                "outcome": torch.tensor(outcomes, dtype=torch.uint8).view(shape),
                "said": torch.from_numpy(same_answers),
            }
            store.write(shard(start), tensors)
    arrays = _joined(store, ("score", "outcome", "said"))
    return Verdicts(**{name: tensor.numpy() for name, tensor in arrays.items()})


def _same_answers(answers: Sequence[str | None], attempts: int) -> npt.NDArray[np.int64]:
    """Index [P, N] of the first attempt at the same problem with the same answer; -1 if there is no answer."""
    groups = np.full(len(answers), -1, dtype=np.int64)
    for first in range(0, len(answers), attempts):
        seen: dict[str, int] = {}
        for place, answer in enumerate(answers[first : first + attempts]):
            if answer is not None:
                groups[first + place] = seen.setdefault(" ".join(answer.split()), place)
    return groups.reshape(-1, attempts)


def joined_chains(store: Store) -> Chains:
    """The chains of a complete store, concatenated."""
    arrays = _joined(store, ("tokens", "log_p", "lengths"))
    return Chains(**{name: tensor.numpy() for name, tensor in arrays.items()})


def _joined(store: Store, names: Sequence[str]) -> dict[str, Tensor]:
    shards = [store.file(shard(start)) for start in store.starts]
    return {name: torch.cat([each.get_tensor(name) for each in shards]) for name in names}
