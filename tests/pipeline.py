"""A pipeline played pass by pass: pp stages, and pp batches that go round, each with its budget of tokens.

A pass decodes one token of each sequence of its batch and takes chunks of prompts, which wait in one line; a request
decodes in the batch that took its last chunk.  Passes go through the stages in order, and none overtakes another.  Its
prices are those of the cost model for one pass, and nothing of the event loop is used.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flashstill.cost.phases import mixed_step, verify_step
from flashstill.plan.resolve import Resolved
from flashstill.workload import Chunks, Decoding

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Means(NamedTuple):
    """Means over all requests: seconds to the first token and per token after it, and output tokens per second."""

    ttft_s: float
    tpot_s: float
    output_tokens_per_s: float


class PassPrices:
    """Seconds of one stage for one pass, linear between knots of sequences, prompt tokens and what these attend to."""

    def __init__(self, resolved: Resolved, sequences: int, budget: int, context: float) -> None:
        model, conditions, layout = resolved.model, resolved.conditions, resolved.layout
        batches = np.unique([*(2.0 ** np.arange(10)), float(sequences)])
        batches = batches[batches <= sequences]
        tokens = np.unique([1.0, *np.round(2.0 ** np.arange(4.0, 20.0, 0.5)), float(budget)])
        tokens = tokens[tokens <= budget]
        attended = 2.0 ** np.arange(4.0, np.ceil(np.log2(2.0 * context)) + 1.0)
        self.knots = (np.append(0.0, batches), np.append(0.0, tokens), attended)
        b, p, a = np.meshgrid(self.knots[0], tokens, attended, indexing="ij")
        length = np.clip(2.0 * a, 1.0, p)
        decoding = Decoding(sequences=b, context=context, queries=1.0)
        chunks = Chunks(count=p / length, length=length, past=np.maximum(a - length / 2.0, 0.0))
        both = np.asarray(mixed_step(model, conditions, layout, decoding, chunks).seconds)
        alone = Decoding(sequences=batches, context=context, queries=1.0)
        decode = np.append(0.0, np.asarray(verify_step(model, conditions, layout, alone).seconds))
        added = conditions.software.first_ratio * (both - decode[:, None, None])
        whole = decode[:, None, None] + np.pad(added, ((0, 0), (1, 0), (0, 0)))
        self.stage_s = whole / resolved.degrees.pp

    def of(self, sequences: int, tokens: int, attended: float) -> float:
        """Seconds of each stage."""
        places = []
        for knots, value in zip(self.knots, (sequences, tokens, attended), strict=True):
            at = min(max(int(np.searchsorted(knots, value, side="right")) - 1, 0), len(knots) - 2)
            share = min(max((value - knots[at]) / (knots[at + 1] - knots[at]), 0.0), 1.0)
            places.append(((at, 1.0 - share), (at + 1, share)))
        return float(
            sum(u * v * w * self.stage_s[i, j, k] for i, u in places[0] for j, v in places[1] for k, w in places[2])
        )


class Pipeline:
    """Requests in order of arrival; those without a time come `return_s` after another has ended."""

    def __init__(self, prices: PassPrices, stages: int, budget: int, arrival_s: Values, prompt: Counts, output: Counts):
        self.prices, self.budget, self.return_s = prices, budget, 0.003
        self.arrival_s, self.prompt, self.output = arrival_s.copy(), prompt, output
        first = int(np.isfinite(arrival_s).sum())
        self.to_come = [(float(arrival_s[i]), i) for i in range(first)]
        self.followers = deque(range(first, len(arrival_s)))
        self.most = math.ceil(first / stages) if self.followers else len(arrival_s)  # sequences of one batch
        self.line: deque[int] = deque()
        self.left, self.done = prompt.copy(), np.zeros_like(prompt)
        self.given = np.zeros_like(prompt)
        self.first_s, self.end_s = np.full(len(prompt), np.nan), np.full(len(prompt), np.nan)
        self.batches: list[list[int]] = [[] for _ in range(stages)]
        self.out_s = [0.0] * stages  # when a batch's last pass has left the last stage
        self.flying = [False] * stages
        self.free_s = [0.0] * stages

    def run(self) -> Means:
        """Until the last request is done."""
        at, now = 0, 0.0
        while np.isnan(self.end_s).any():
            now = max(now, self.free_s[0], self.out_s[at] if self.flying[at] else 0.0)
            self.land(at)
            while self.to_come and self.to_come[0][0] <= now:
                self.line.append(heapq.heappop(self.to_come)[1])
            tokens, attended = self.take(at)
            if self.batches[at]:
                self.go(at, now, tokens, attended)
                at = (at + 1) % len(self.batches)
                continue
            others = [(at + i) % len(self.batches) for i in range(1, len(self.batches))]
            busy = [other for other in others if self.flying[other]]
            comes_s = self.to_come[0][0] if self.to_come else math.inf
            if busy and max(self.free_s[0], self.out_s[busy[0]]) <= comes_s:
                at = busy[0]
            else:
                now = max(now, comes_s)
        whole = self.output[self.output > 1] - 1
        return Means(
            float((self.first_s - self.arrival_s).mean()),
            float(((self.end_s - self.first_s)[self.output > 1] / whole).mean()),
            float(self.output.sum() / (self.end_s.max() - self.arrival_s[0])),
        )

    def take(self, at: int) -> tuple[int, float]:
        """Chunks of prompts into a batch's next pass; requests whose last chunk it is belong to the batch."""
        budget, tokens, work = self.budget - len(self.batches[at]), 0, 0.0
        while self.line and budget > 0:
            request = self.line[0]
            if self.done[request] == 0 and len(self.batches[at]) >= self.most:
                break  # it starts where a place is free; what has begun goes on in every batch
            chunk = min(int(self.left[request]), budget)
            work += chunk * (self.done[request] + chunk / 2.0)
            self.left[request] -= chunk
            self.done[request] += chunk
            tokens, budget = tokens + chunk, budget - chunk
            if self.left[request] == 0:
                self.batches[at].append(self.line.popleft())
        if tokens and not self.batches[at]:
            self.batches[at].append(-1)  # a pass of chunks alone
        return tokens, work / tokens if tokens else 0.0

    def go(self, at: int, now: float, tokens: int, attended: float) -> None:
        """A pass through all stages."""
        decoding = sum(1 for request in self.batches[at] if request >= 0 and self.given[request] > 0)
        seconds = self.prices.of(decoding, tokens, attended)
        for stage, free_s in enumerate(self.free_s):
            now = max(now, free_s) + seconds
            self.free_s[stage] = now
        self.out_s[at], self.flying[at] = now, True

    def land(self, at: int) -> None:
        """The pass of a batch has left the last stage: a token for each of its sequences."""
        if not self.flying[at]:
            return
        now, self.flying[at] = self.out_s[at], False
        mine = [request for request in self.batches[at] if request >= 0]
        self.batches[at] = []
        for request in mine:
            self.given[request] += 1
            if self.given[request] == 1:
                self.first_s[request] = now
            if self.given[request] < self.output[request]:
                self.batches[at].append(request)
                continue
            self.end_s[request] = now
            if self.followers:
                follower = self.followers.popleft()
                self.arrival_s[follower] = now + self.return_s
                heapq.heappush(self.to_come, (now + self.return_s, follower))
