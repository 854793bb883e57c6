"""What the requests of a level say: latencies by their definitions, rates, failures, and the client's own share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.load_test.client import Reply
from flashstill.load_test.drive import Ran
from flashstill.load_test.failures import OK
from flashstill.load_test.question import Level
from flashstill.load_test.statistics import Distribution, OverRuns, distribution, over_runs
from flashstill.simulate.results import Steadiness

DEFINITIONS = {
    "ttft_s": "from sending a request to its first token of any kind, reasoning tokens included; without the time that"
    " it waited in this client",
    "ttft_with_queue_s": "the same from when the request was due: with the client's own queue and delay (equal to"
    " ttft_s in a closed loop)",
    "first_answer_s": "from sending a request to its first token that is no reasoning (reasoning_content, reasoning)",
    "last token": "the last event with text, or the one that says why the answer ended, whichever is later",
    "tpot_s": "per request, (last token - first token) / (output tokens - 1): the first token is left out",
    "tpot_with_first_s": "per request, (last token - sending) / output tokens: the first token and its wait are in",
    "inter_token_s": "all gaps between events that carry text, over all requests: long answers count more often than in"
    " tpot_s, and tokens that come in one event have one gap between them",
    "end_to_end_s": "from sending a request to its last token",
    "output_tokens_per_s": "output tokens of requests that ended well, per second from the run's start to its end",
    "tokens": "by the server's usage; where it has none, one token for each event that carries text",
    "percentiles": "95 % intervals by order statistics; null where n values cannot tell it",
    "over_runs": "the median of the runs' figures, and order statistics around it with the confidence that they have",
    "failures": "every request that was due ends as ok or as one kind of failure; latencies are of those that ended ok",
    "client_processor_ratio": "processor seconds of this client per second: near 1 per process, it measures itself",
}
"""traps of serving metrics, each defined once; printed in every output"""
METRICS: dict[str, Callable[[Reply], float | None]] = {
    "ttft_s": lambda reply: _between(reply.sent, reply.first),
    "ttft_with_queue_s": lambda reply: _between(reply.due, reply.first),
    "first_answer_s": lambda reply: _between(reply.sent, reply.answer),
    "tpot_s": lambda reply: _per(_between(reply.first, reply.last), reply.output_tokens - 1),
    "tpot_with_first_s": lambda reply: _per(_between(reply.sent, reply.last), reply.output_tokens),
    "end_to_end_s": lambda reply: _between(reply.sent, reply.last),
}


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else max(end - start, 0.0)


def _per(seconds: float | None, tokens: int) -> float | None:
    return None if seconds is None or tokens < 1 else seconds / tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The requests of one run, and what it took."""

    run: int
    seed: int
    replies: list[Reply]
    ran: Ran
    joules: float | None = None

    @property
    def well(self) -> list[Reply]:
        """The requests that ended well."""
        return [reply for reply in self.replies if reply.outcome == OK]

    def figures(self) -> dict[str, float]:
        """Rates of the run, and means and medians of its latencies."""
        well, wall_s = self.well, self.ran.wall_s
        found: dict[str, float] = {}
        if wall_s > 0.0:
            tokens = sum(reply.output_tokens for reply in well)
            prompts = sum(reply.prompt_tokens or reply.wanted_prompt for reply in well)
            found = {
                "requests_per_s": len(well) / wall_s,
                "output_tokens_per_s": tokens / wall_s,
                "input_tokens_per_s": prompts / wall_s,
                "in_flight": sum(reply.ended - reply.sent for reply in self.replies) / wall_s,
                "client_processor_ratio": self.ran.processor_s / wall_s,
            }
            if self.joules is not None:
                found["joules"] = self.joules
                if tokens:
                    found["joules_per_output_token"] = self.joules / tokens
        for name in (*METRICS, "inter_token_s"):
            seconds = values_of(name, well)
            if len(seconds):
                found[f"{name.removesuffix('_s')}_mean_s"] = float(seconds.mean())
                found[f"{name.removesuffix('_s')}_median_s"] = float(np.median(seconds))
        return found


def values_of(name: str, replies: Iterable[Reply]) -> np.ndarray:
    """The values of a latency over requests that ended well (gaps: over their events)."""
    if name == "inter_token_s":
        return np.concatenate([np.array(reply.gaps_s) for reply in replies] or [np.zeros(0)])
    found = (METRICS[name](reply) for reply in replies)
    return np.array([value for value in found if value is not None])


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelResult:
    """What was measured at one load. latencies: over the requests of all runs. over_runs: figure -> median over runs.

    failures: kind -> count; short, long: requests that ended well with fewer or more tokens than asked for. steady: of
    the waiting in an open loop, None where it cannot be told. turns: of conversations and agents, sent after the one
    before them; late_turns: those that were due later than in the trace, by so much on average. warm_up: its requests,
    and whether they became stationary.
    """

    level: Level
    runs: tuple[dict[str, float], ...]
    requests: int
    ok: int
    failures: dict[str, int]
    details: dict[str, str]
    short: int
    long: int
    counted_by_usage: int
    prompt_tokens: float | None
    wanted_prompt_tokens: float
    output_tokens: float | None
    wanted_output_tokens: float
    tokens_per_event: float | None
    reasoning: int
    latencies: dict[str, Distribution]
    over_runs: dict[str, OverRuns]
    lag_s: float
    late_s: float
    burst_share: float
    spacing_s: float | None
    turnaround_s: float | None
    steady: Steadiness | None
    turns: int
    late_turns: int
    late_turn_mean_s: float
    warm_up: dict[str, Any] | None
    replies: tuple[Reply, ...]
    """all requests that were sent, run after run, with times from the start of their run"""
    wall_s: float
    """seconds of all runs"""

    @property
    def output_tokens_per_s(self) -> float:
        """Median over runs; 0 where no request ended well."""
        found = self.over_runs.get("output_tokens_per_s")
        return 0.0 if found is None else found.median


def level_result(level: Level, runs: Sequence[Measured], warm_up: dict[str, Any] | None) -> LevelResult:
    """Summary of a level's runs."""
    replies = [reply for each in runs for reply in each.replies]
    well = [reply for each in runs for reply in each.well]
    figures = [each.figures() for each in runs]
    failures = Counter(reply.outcome for reply in replies if reply.outcome != OK)
    details = {reply.outcome: reply.detail for reply in reversed(replies) if reply.outcome != OK and reply.detail}
    not_sent = sum(each.ran.not_sent for each in runs)
    if not_sent:
        failures["not_sent"] += not_sent
    late_turns = sum(each.ran.late for each in runs)
    names = dict.fromkeys(name for each in figures for name in each)
    spread = {name: over_runs([each[name] for each in figures if name in each]) for name in names}
    latencies = {name: distribution(values_of(name, well)) for name in (*METRICS, "inter_token_s")}
    counted = [reply.prompt_tokens for reply in well if reply.prompt_tokens is not None]
    events = sum(len(reply.gaps_s) + 1 for reply in well)
    return LevelResult(
        level=level, runs=tuple(figures), requests=len(replies) + not_sent, ok=len(well), failures=dict(failures),
        details=details, short=sum(reply.output_tokens < reply.wanted_output for reply in well),
        long=sum(reply.output_tokens > reply.wanted_output for reply in well),
        counted_by_usage=sum(reply.counted_by == "usage" for reply in well),
        prompt_tokens=float(np.mean(counted)) if counted else None,
        wanted_prompt_tokens=_mean([reply.wanted_prompt for reply in replies]),
        output_tokens=_mean([reply.output_tokens for reply in well]) if well else None,
        wanted_output_tokens=_mean([reply.wanted_output for reply in replies]),
        tokens_per_event=sum(reply.output_tokens for reply in well) / events if events else None,
        reasoning=sum(reply.first != reply.answer for reply in well),
        latencies={name: each for name, each in latencies.items() if each is not None},
        over_runs={name: each for name, each in spread.items() if each is not None},
        lag_s=max((each.ran.lag_s for each in runs), default=0.0),
        late_s=max((reply.sent - reply.due for reply in replies), default=0.0),
        burst_share=min(level.value * len(runs) / max(len(replies), 1), 1.0) if level.is_closed else 0.0,
        spacing_s=spacing_of(level, runs), turnaround_s=turnaround_of(level, runs),
        turns=sum(each.ran.turns for each in runs), late_turns=late_turns,
        late_turn_mean_s=sum(each.ran.late_s for each in runs) / max(late_turns, 1),
        steady=steadiness_of(runs) if level.is_open else None, warm_up=warm_up, replies=tuple(replies),
        wall_s=sum(each.ran.wall_s for each in runs),
    )  # fmt: skip


def spacing_of(level: Level, runs: Sequence[Measured]) -> float | None:
    """Median seconds between the first requests of a closed loop; None at a rate and of one request in flight."""
    many = int(level.value) if level.is_closed else 0
    begun = [sorted(reply.sent for reply in each.replies)[:many] for each in runs]
    between = [(sent[-1] - sent[0]) / (many - 1) for sent in begun if len(sent) == many > 1]
    return float(np.median(between)) if between else None


def turnaround_of(level: Level, runs: Sequence[Measured]) -> float | None:
    """Median seconds of the client, from the last token of an answer in a closed loop to the next request.

    Of runs in which all went well: each answer that ends lets the next request go.  None without such a run.
    """
    many, between = int(level.value) if level.is_closed else 0, list[float]()
    for each in runs if many else ():
        ended = sorted((reply.ended, reply.last) for reply in each.well if reply.last is not None)
        sent = sorted(reply.sent for reply in each.replies)
        if len(ended) == len(sent):  # a failed one has no last token
            between += [begun - last for (_, last), begun in zip(ended, sent[many:], strict=False)]
    return float(np.median(between)) if between else None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def steadiness_of(runs: Sequence[Measured]) -> Steadiness | None:
    """Seconds to the first token in the second and in the last quarter of the runs, in order of their arrival."""
    second: list[float] = []
    last: list[float] = []
    for each in runs:
        arrived = sorted(each.well, key=lambda reply: reply.due)  # they are kept as they ended
        waited = [seconds for reply in arrived if (seconds := METRICS["ttft_with_queue_s"](reply)) is not None]
        quarter = len(waited) // 4
        if quarter:
            second += waited[quarter : 2 * quarter]
            last += waited[-quarter:]
    if len(second) < 2:
        return None
    error = math.sqrt((float(np.var(second, ddof=1)) + float(np.var(last, ddof=1))) / len(second))
    return Steadiness(before_s=_mean(second), after_s=_mean(last), error_s=error)
