"""What is measured: a server, its load level by level, and how long one waits for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from flashstill.errors import BadInput, check_counts, shortened, unknown
from flashstill.servers import wrong_address
from flashstill.simulate.traffic import OF_AGENTS, OPEN_LOOP, Traffic
from flashstill.traces.reading import DEFAULT, READING, Reading

APIS = {"completions": "/completions", "chat": "/chat/completions"}
FEWEST_RUNS = 5
"""runs without a warm-up"""
REQUESTS_PER_SLOT, FEWEST_REQUESTS, OPEN_REQUESTS = 10, 20, 100
"""default requests of a run: so many per request in flight, as public benchmarks send; and of an open loop"""
ISL, OSL, OPEN_IN_FLIGHT, TURNS = 256, 128, 1024, 10
GROWTH, MOST_IN_FLIGHT, MOST_CLIENTS, MOST_REQUESTS = 2, 4096, 256, 10_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One load: `concurrency` requests in flight (closed loop), `rate` requests per second, a `trace` at a speed, or so
    many `agents`."""

    kind: str
    value: float

    @property
    def is_closed(self) -> bool:
        """Whether a request is sent only when another is done."""
        return self.kind == "concurrency"

    @property
    def is_open(self) -> bool:
        """Whether requests come by themselves."""
        return self.kind in ("rate", "trace")

    @property
    def is_count(self) -> bool:
        """Whether its value is a number of requests or agents."""
        return self.kind in ("concurrency", "agents")

    def __str__(self) -> str:
        if self.kind == "agents":
            return f"{self.value:g} agents"
        if self.kind == "rate":
            return f"{self.value:g} requests/s"
        return f"{self.value:g} in flight" if self.is_closed else f"trace at {self.value:g} x its speed"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadTest:
    """A measurement. base: URL up to and including /v1; name: the served model, empty for the only one.

    Exactly one of concurrency, rates, trace and agents is given; each entry is a level. requests: of one run, None for
    `per_slot` for each in flight, OPEN_REQUESTS at a rate, the whole trace, or those that follow from the agents. isl,
    osl, least_ratio: lengths as in `simulate.traffic`, drawn with the same seeds. speeds: of the trace; reading: what
    the user says of it that its file does not; replay: of its conversations, one of REPLAYS of `simulate.traffic`.
    turns, think_s, fan_out, shared_prefix: of agents, as there.
    tokenizer: a directory with tokenizer.json, for prompts of exact length.
    time_limit_s: of one request; stall_s: longest wait for a byte.  most_in_flight: beyond it, requests of an open
    loop wait in the client, which is counted.  clients: processes that send requests.
    in_turn: the levels one after the other in every run, so that a machine whose speed drifts does so at all of them.
    """

    base: str
    name: str = ""
    api: str = "completions"
    concurrency: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    trace: Path | None = None
    speeds: tuple[float, ...] = (1.0,)
    reading: Reading = DEFAULT
    replay: str = OPEN_LOOP
    agents: tuple[int, ...] = ()
    turns: int = TURNS
    think_s: float = 0.0
    fan_out: int = 1
    shared_prefix: int = 0
    requests: int | None = None
    isl: int = ISL
    osl: int = OSL
    least_ratio: float = 1.0
    runs: int = FEWEST_RUNS
    warm_up: bool = True
    until_saturation: bool = False
    ignore_eos: bool = True
    temperature: float = 0.0
    seed: int = 0
    tokenizer: Path | None = None
    time_limit_s: float = 300.0
    stall_s: float = 60.0
    most_in_flight: int = OPEN_IN_FLIGHT
    clients: int = 1
    in_turn: bool = False
    per_slot: int = REQUESTS_PER_SLOT

    def __post_init__(self) -> None:
        if wrong := wrong_address(self.base):
            raise BadInput(f"the server {shortened(self.base.rpartition('@')[2], 80)!r} {wrong}")
        if self.api not in APIS:
            raise BadInput(unknown("api of a server", self.api, APIS))
        given = [name for name in ("concurrency", "rates", "trace", "agents") if getattr(self, name)]
        if len(given) != 1:
            raise BadInput("give one of concurrency, rate, trace and agents")
        counts = {"requests": self.requests, "per_slot": self.per_slot, "runs": self.runs}
        check_counts({**counts, "isl": self.isl, "osl": self.osl})
        if self.requests is not None and self.requests > MOST_REQUESTS:
            raise BadInput(f"a run has at most {MOST_REQUESTS:,} requests, which are held in memory; give fewer")
        for many in self.agents:
            if many < 1 or many != int(many):
                raise BadInput(f"agents must be a whole number of at least 1, not {many}")
        for many in self.concurrency:
            if not 1 <= many <= MOST_IN_FLIGHT or many != int(many):
                raise BadInput(f"concurrency must lie between 1 and {MOST_IN_FLIGHT:,}, a whole number, not {many}")
        if not 1 <= self.most_in_flight <= MOST_IN_FLIGHT:
            raise BadInput(f"max_in_flight must lie between 1 and {MOST_IN_FLIGHT:,}, not {self.most_in_flight}")
        if not 1 <= self.clients <= MOST_CLIENTS:
            raise BadInput(f"clients must lie between 1 and {MOST_CLIENTS}, not {self.clients}")
        for name in ("time_limit_s", "stall_s"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise BadInput(f"{name} must be a positive number of seconds, not {getattr(self, name)}")
        if not 0.0 <= self.temperature <= 10.0:
            raise BadInput(f"temperature must lie between 0 and 10, not {self.temperature}")
        if self.runs < FEWEST_RUNS and not self.warm_up:
            raise BadInput(
                f"fewer than {FEWEST_RUNS} runs need a warm-up; leave --no-warm-up out, or run it more often"
            )
        if self.seed < 0:
            raise BadInput(f"seed must be at least 0, not {self.seed}")
        self._check_unused()
        if len(self.levels) != len(set(self.levels)):
            raise BadInput("a level of the load is given twice")
        for level in self.levels:
            traffic = self.traffic(level)
            requests = (traffic.agents or 0) * traffic.turns * traffic.fan_out
            if requests > MOST_REQUESTS:
                raise BadInput(f"{level} make {requests:,} requests; a run has at most {MOST_REQUESTS:,}")

    def _check_unused(self) -> None:
        """BadInput for values that this load would ignore."""
        if self.trace is None and self.speeds != (1.0,):
            raise BadInput("speed is of a trace, and none is given")
        if self.trace is None and self.reading != DEFAULT:
            said = next(name for name in READING if getattr(self.reading, name) != getattr(DEFAULT, name))
            raise BadInput(f"{said} says how a trace is read; give a trace")
        if self.trace is None and self.replay != OPEN_LOOP:
            raise BadInput("replay is of a trace, and none is given")
        if (self.replay != OPEN_LOOP or self.agents) and self.clients > 1:
            raise BadInput("the turns of conversations are sent from one process; leave clients out")
        for name in () if self.agents else OF_AGENTS:
            if getattr(self, name) != self.__dataclass_fields__[name].default:
                raise BadInput(f"{name} is of agents; say how many there are with agents")
        if self.agents and self.requests is not None:
            raise BadInput("the requests of agents follow from turns and fan_out; leave requests out")
        if self.agents and self.until_saturation:
            raise BadInput("until_saturation is of concurrency and rate; give the numbers of agents to measure")
        if self.trace is not None and (self.isl, self.osl, self.least_ratio) != (ISL, OSL, 1.0):
            raise BadInput("a trace says how long its requests are; leave isl, osl and least_ratio out")
        if self.concurrency and self.most_in_flight != OPEN_IN_FLIGHT:
            raise BadInput("max_in_flight is of an open loop; concurrency says how many requests are in flight")
        if self.requests is not None and self.requests < max(self.concurrency, default=0):
            raise BadInput(
                f"{self.requests:,} requests never put {max(self.concurrency):,} in flight; give more requests"
            )
        few = 4 * -(-2 // self.runs)  # so that two of them are in a quarter of the runs (summary.py)
        if self.until_saturation and self.rates and (self.requests or OPEN_REQUESTS) < few:
            raise BadInput(f"from fewer than {few} requests nobody can tell whether waiting grows; give more requests")

    @property
    def repeats(self) -> bool:
        """Whether prompts repeat what was said before, so that a server's prefix cache holds most of them."""
        return bool(self.agents) or self.replay != OPEN_LOOP

    @property
    def address(self) -> str:
        """The base URL with /v1 and without a slash at its end."""
        plain = self.base.rstrip("/")
        return plain if plain.rpartition("/")[2].startswith("v") else f"{plain}/v1"

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels in the order in which they are measured."""
        if self.trace is not None:
            return tuple(Level(kind="trace", value=speed) for speed in self.speeds)
        by_kind: dict[str, tuple[float, ...]] = {
            "concurrency": self.concurrency, "rate": self.rates, "agents": self.agents,
        }  # fmt: skip
        return tuple(Level(kind=kind, value=float(value)) for kind, values in by_kind.items() for value in values)

    def traffic(self, level: Level) -> Traffic:
        """The requests of a run at a level, as `simulate` makes them."""
        if self.trace is not None:
            return Traffic(trace=self.trace, speed=level.value, reading=self.reading, replay=self.replay)
        if self.agents:
            return Traffic(
                agents=int(level.value), turns=self.turns, think_s=self.think_s, fan_out=self.fan_out,
                shared_prefix=self.shared_prefix, isl=self.isl, osl=self.osl, least_ratio=self.least_ratio,
            )  # fmt: skip
        many = int(level.value) if level.is_closed else None
        usual = OPEN_REQUESTS if many is None else max(self.per_slot * many, FEWEST_REQUESTS)
        requests = max(self.requests or usual, many or 1)
        rate = None if level.is_closed else level.value
        return Traffic(
            concurrency=many, rate=rate, requests=requests, isl=self.isl, osl=self.osl, least_ratio=self.least_ratio
        )
