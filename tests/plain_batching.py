"""A second, plain implementation of continuous batching for the tests: one step at a time, objects and lists.

It shares no code with flashstill/simulate and walks through every decode step, so that what jumps over steps and is
compiled can be compared with it event for event.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request and what has become of it."""

    arrival: float
    prompt: int
    output: int
    cached: int = 0
    generated: int = 0
    first: float | None = None
    started: float | None = None
    done: float | None = None
    context: int = 0
    left: int = 0
    born: int = -1
    number: int = 0
    keys: tuple[int, ...] = ()
    held: int = 0
    hosted: int = 0
    sent: float = 0.0


@dataclass
class Server:
    """Replica of an engine. step_s: (decoding, mean context, prompt tokens, mean attended) -> seconds.

    drafts: verified in each step; accepted: (number of the request, tokens left) -> how many of them come true.
    few: with prefill_first, prompts start only while at most so many decode.
    ahead: a request that comes while a step runs misses the next one as well.
    margin: free blocks without which no prompt joins decoding sequences, nor a second one an empty step.
    late: "behind" or "away": what becomes of requests that can no longer keep ttft; prompts keep steps within tpot.
    """

    step_s: Callable[[int, float, int, float], float]
    sequences: int
    tokens: int
    block: int
    blocks: int
    prefill_first: bool
    reserves: bool = False
    few: float = math.inf
    drafts: int = 0
    accepted: Callable[[int, int], int] = lambda number, left: 0
    late: str = ""
    ttft: float = math.inf
    tpot: float = math.inf
    behind: deque[Request] = field(default_factory=deque)
    forgiven: list[Request] = field(default_factory=list)
    refused: list[Request] = field(default_factory=list)
    opened: bool = False
    load: tuple[int, float, int, float] = (0, 0.0, 0, 0.0)
    waiting: deque[Request] = field(default_factory=deque)
    filling: list[Request] = field(default_factory=list)
    decoding: list[Request] = field(default_factory=list)
    chunks: list[tuple[Request, int]] = field(default_factory=list)
    decodes: bool = False
    preemptions: int = 0
    admissions: int = 0
    owed: int = 0
    unit: int = 0
    holders: dict[int, int] = field(default_factory=dict)
    idle: dict[int, None] = field(default_factory=dict)  # the least recently used first
    evictions: int = 0
    swap_s: float = 0.0
    link: float = 0.0
    hits: int = 0
    ahead: bool = False
    begun: float = math.inf
    margin: int = 0

    @property
    def _unit_blocks(self) -> int:
        return self.unit // self.block

    def _evict(self, free: int) -> None:
        while self.unit and len(self.idle) * self._unit_blocks > free:
            del self.idle[next(iter(self.idle))]
            self.evictions += self._unit_blocks

    def cached_units(self, request: Request) -> int:
        """Units of the longest cached prefix of a prompt, of which one token is left to compute."""
        if not self.unit:
            return 0
        most = min(len(request.keys), (request.prompt + request.generated - 1) // self.unit)
        known = [key in self.holders or key in self.idle for key in request.keys[:most]]
        return known.index(False) if False in known else most

    def _hold(self, request: Request, units: int) -> None:
        for key in request.keys[request.held : units]:
            self.idle.pop(key, None)
            self.holders[key] = self.holders.get(key, 0) + 1
        request.held = max(request.held, min(units, len(request.keys)))

    def _enter(self, request: Request, tokens: int) -> None:
        if self.unit:
            self._hold(request, tokens // self.unit)

    def _leave(self, request: Request) -> None:
        """A sequence gives up its memory; what has a key stays until it is needed."""
        self._enter(request, request.context)
        for key in reversed(request.keys[: request.held]):
            self.holders[key] -= 1
            if self.holders[key] == 0:
                del self.holders[key]
                self.idle[key] = None
        request.held = 0

    def _drop(self, request: Request) -> None:
        """Take a decoding sequence out; the last one takes its place."""
        at = self.decoding.index(request)
        self.decoding[at] = self.decoding[-1]
        self.decoding.pop()

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.block)

    @property
    def free(self) -> int:
        """Blocks that nobody holds; those of idle units are free."""
        running = (*self.filling, *self.decoding)
        own = sum(self._blocks(each.context) - each.held * self._unit_blocks for each in running)
        return self.blocks - own - len(self.holders) * self._unit_blocks

    def _needed(self) -> int:
        """Blocks that the next step of all decoding sequences may take."""
        most = [min(self.drafts + 1, each.output - each.generated) for each in self.decoding]
        return sum(
            self._blocks(each.context + more) - self._blocks(each.context)
            for each, more in zip(self.decoding, most, strict=True)
        )

    def _preempt(self) -> None:
        latest = max((*self.filling, *self.decoding), key=lambda each: each.born)
        if latest in self.filling:
            self.filling.remove(latest)
        else:
            self._drop(latest)
        self._leave(latest)
        if self.swap_s:
            latest.hosted = latest.context
            self.link += self._blocks(latest.context) * self.swap_s
        latest.context = 0
        self.waiting.appendleft(latest)
        self.preemptions += 1

    def _prompts(self, budget: int, reserved: int, admits: bool, seen: float, now: float) -> None:
        self.chunks = []
        planned = 0  # blocks of the chunks

        def left_free() -> int:
            return self.free - reserved - planned

        most = math.inf if self.free >= self.margin else 0 if self.decoding else 1
        for place, each in enumerate(self.filling):
            room = (self._blocks(each.context) + left_free()) * self.block - each.context
            chunk = max(min(each.left, budget, room), 0) if place < most else 0
            planned += self._blocks(each.context + chunk) - self._blocks(each.context)
            budget -= chunk
            self.chunks.append((each, chunk))
            self._enter(each, each.context + chunk)
        self._evict(left_free())
        whole_budget = budget + sum(chunk for _, chunk in self.chunks)
        while (
            admits
            and budget > 0
            and len(self.filling) < most
            and len(self.decoding) + len(self.filling) < self.sequences
        ):
            if self.late:
                self._sort_out(whole_budget, now)
            if not self.waiting or self.waiting[0].sent > seen:
                break
            each = self.waiting[0]
            units = self.cached_units(each)
            if self.unit and each.keys:
                each.cached = units * self.unit
            shared = sum(self._unit_blocks for key in each.keys[:units] if key in self.holders)
            found = max(each.cached, each.hosted)
            left = each.prompt + each.generated - found
            chunk = min(left, budget)
            committed = sum(self._blocks(one.prompt + one.output) for one in (*self.filling, *self.decoding, each))
            if self._blocks(found + chunk) - shared > left_free() or (self.reserves and committed > self.blocks):
                break
            self.waiting.popleft()
            if each.started is None:
                each.started = now
                self.hits += each.cached
            each.context, each.left, each.born = found, left, self.admissions
            self.admissions += 1
            planned += self._blocks(found + chunk) - self._blocks(found)
            if each.hosted:
                shared_tokens = units * self._unit_blocks if self.unit else 0
                self.link += (self._blocks(found) - shared_tokens) * self.swap_s
                each.hosted = 0
            budget -= chunk
            self.filling.append(each)
            self.chunks.append((each, chunk))
            self._hold(each, units)
            self._enter(each, found + chunk)
            self._evict(left_free())

    def _mean(self) -> float:
        return sum(each.context for each in self.decoding) / len(self.decoding) if self.decoding else 0.0

    def _within(self, most: int) -> int:
        """The largest budget of prompt tokens with which the next step keeps tpot."""
        for budget in range(most, 0, -1):
            left, prompt, work = budget, 0, 0.0
            ahead = [(each.left, each.context) for each in self.filling]
            ahead += [(each.prompt + each.generated - each.cached, each.cached) for each in self.waiting]
            for tokens, past in ahead:
                chunk = min(tokens, left)
                left, prompt, work = left - chunk, prompt + chunk, work + chunk * (past + chunk / 2.0)
            if not prompt or self.step_s(len(self.decoding), self._mean(), prompt, work / prompt) <= self.tpot:
                return budget
        return 0

    def _sort_out(self, budget: int, now: float) -> None:
        """Take those that are too late off the head of the line."""
        while self.waiting:
            each = self.waiting[0]
            own = each.prompt - each.cached
            left, seconds = own + sum(one.left for one in self.filling), 0.0
            while left > 0:
                seconds += self.step_s(len(self.decoding), self._mean(), min(left, budget), each.cached + own / 2.0)
                left -= budget
            known = each.started is not None or any(each is one for one in self.forgiven)
            if known or now - each.arrival + seconds <= self.ttft:
                return
            self.waiting.popleft()
            if self.late == "away":
                self.refused.append(each)
                self.owed -= 1
            else:
                self.forgiven.append(each)
                self.behind.append(each)
        if self.behind:
            self.waiting.append(self.behind.popleft())

    def can_admit(self, request: Request) -> bool:
        """Whether a request from a central line can start here in the next step."""
        ahead = (*self.filling, *self.waiting)
        needed = [self._blocks(each.prompt + each.generated) for each in (*ahead, request)]
        held = sum(self._blocks(each.context) for each in self.filling)
        whole = [self._blocks(each.prompt + each.output) for each in (*ahead, *self.decoding, request)]
        fits = sum(needed) - held <= self.free and not (self.reserves and sum(whole) > self.blocks)
        return self.owed < self.sequences and fits

    def plan(self, now: float) -> float | None:
        """Decide the next step; its end, or None if there is nothing to do."""
        preempted = False
        seen = self.begun if self.ahead and (self.decoding or self.filling) else math.inf
        while True:
            self.opened = self.opened or len(self.decoding) <= self.few
            self.decodes = bool(self.decoding) and not self.prefill_first
            while self.decodes and self._needed() > self.free:
                self._preempt()
                preempted, self.decodes = True, bool(self.decoding)
            reserved = self._needed() if self.decodes else 0
            budget = self.tokens - (len(self.decoding) * (self.drafts + 1) if self.decodes else 0)
            if self.late and self.decodes:
                budget = self._within(budget)
            budget = budget if self.opened else 0
            self._prompts(budget, reserved, not preempted, seen, now)
            prompt = sum(chunk for _, chunk in self.chunks)
            if prompt == 0 and self.prefill_first:
                self.opened = False
                self.decodes = bool(self.decoding)
                if self.decodes and self._needed() > self.free:
                    self._preempt()
                    preempted = True
                    continue
            if prompt == 0 and not self.decodes and self.filling and budget > 0:
                self._preempt()
                preempted = True
                continue
            if prompt == 0 and not self.decodes and preempted and self.waiting:
                preempted = False
                continue
            break
        count = len(self.decoding) if self.decodes else 0
        work = sum(chunk * (each.context + chunk / 2.0) for each, chunk in self.chunks)
        self.load = (count, self._mean() if count else 0.0, prompt, work / prompt if prompt else 0.0)
        self.begun = now if prompt or count else math.inf
        if not prompt and not count:
            return None
        if not prompt:
            self._evict(self.free - self._needed())
        link, self.link = self.link, 0.0
        return now + link + self.step_s(*self.load)

    def finish_step(self, now: float) -> list[Request]:
        """Carry out the step that ends now; the requests that it finished."""
        done = []
        if self.decodes:
            for each in self.decoding:
                left = each.output - each.generated - 1
                more = 1 + min(self.accepted(each.number, left), left)
                each.context += more
                each.generated += more
            at = 0
            while at < len(self.decoding):
                each = self.decoding[at]
                if each.generated == each.output:
                    self._drop(each)
                    self._leave(each)
                    done.append(each)
                else:
                    at += 1
        for each, chunk in self.chunks:
            each.context += chunk
            each.left -= chunk
            if each.left == 0:
                self.filling.remove(each)
                each.first = now if each.first is None else each.first
                each.generated += 1
                if each.generated == each.output:
                    self._leave(each)
                    done.append(each)
                else:
                    self.decoding.append(each)
        for each in done:
            each.done = now
        self.owed -= len(done)
        return done


def together_s(group: Sequence[Server], alone_s: Callable[[int, float, int, float], float]) -> float:
    """Seconds of a step of servers that step together. alone_s: of one, if the others have no tokens."""
    tokens = [server.load[0] * (server.drafts + 1) + server.load[2] for server in group]
    least = 1.0 / len(group)
    share = (sum(tokens) / len(group) / max(tokens) - least) / (1.0 - least)
    busy = [server for server, own in zip(group, tokens, strict=True) if own]
    return max(share * server.step_s(*server.load) + (1.0 - share) * alone_s(*server.load) for server in busy)


def walk(
    servers: Sequence[Server],
    requests: Sequence[Request],
    concurrency: int | None = None,
    central: bool = False,
    return_s: float = 0.0,
    ranks: int = 1,
    alone_s: Callable[[int, float, int, float], float] = lambda count, mean, prompt, attended: 0.0,
    follow: Callable[[list[Request], float], list[Request]] = lambda done, now: [],
) -> float:
    """Serve all requests with the router that counts requests, or from one line; the time of the last event.

    concurrency: only so many come by themselves, and each of the others `return_s` after one is done, but not before
    the last of these.
    ranks: so many servers in a row step together.  follow: those that come because of the ones that are done now.
    """
    line: deque[Request] = deque()
    order = itertools.count()
    later = deque(requests[concurrency:] if concurrency is not None else ())
    arriving = deque(requests[:concurrency] if concurrency is not None else requests)
    begun = arriving[-1].arrival
    events: list[tuple[float, int, int]] = []
    is_busy = [False] * len(servers)

    def route(request: Request, now: float) -> set[int]:
        request.arrival = now
        line.append(request)
        return dispatch(now)

    def dispatch(now: float) -> set[int]:
        chosen = set()
        while line:
            able = [r for r, server in enumerate(servers) if not central or server.can_admit(line[0])]
            if not able:
                break
            best = min(able, key=lambda r: (servers[r].owed, r))
            servers[best].owed += 1
            line[0].sent = now
            servers[best].waiting.append(line.popleft())
            chosen.add(best)
        return chosen

    def go_on(r: int, now: float) -> None:
        first = r - r % ranks
        group = servers[first : first + ranks]
        ends = [end for end in [server.plan(now) for server in group] if end is not None]
        is_busy[first : first + ranks] = [bool(ends)] * ranks
        if ends:
            end = ends[0] if ranks == 1 else now + together_s(group, alone_s)
            heapq.heappush(events, (end, first, next(order)))

    last = 0.0
    while arriving or events:
        if arriving and (not events or arriving[0].arrival <= events[0][0]):
            now = arriving[0].arrival
            called: set[int] = set()
            while arriving and arriving[0].arrival == now:
                called |= route(arriving.popleft(), now)
            for r in sorted(called):
                if not is_busy[r]:
                    go_on(r, now)
            continue
        now, r, _ = heapq.heappop(events)
        last = now
        done = [request for server in servers[r : r + ranks] for request in server.finish_step(now)]
        called = dispatch(now) if done else set()
        arriving = deque(sorted([*arriving, *follow(done, now)], key=lambda each: (each.arrival, each.number)))
        for _ in done:
            if later and return_s > 0.0:
                later[0].arrival = max(now + return_s, begun)
                arriving.append(later.popleft())
            elif later:
                called |= route(later.popleft(), now)
        for other in sorted(called - set(range(r, r + ranks))):
            if not is_busy[other]:
                go_on(other, now)
        go_on(r, now)
    return last
