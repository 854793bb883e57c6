"""Arrays of the event loop (loop.py): replicas, requests in flight, limits, and what is counted.

Symbols: R replicas, M most sequences of one, Q places for requests in flight, B tokens of a cache block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
TABLE = 1024
"""entries of a replica's table of the prefix cache at first; it doubles as often as needed"""
NONE, ALL = -1, 2**31
"""no request; as many as there are"""
ROUTERS = ("round-robin", "least-requests", "two-choices", "least-tokens", "central", "prefix")
PREFIX_ROUTER = ROUTERS[5]
CENTRAL = 4
"""requests wait in one line before the replicas (central.py)"""


class Limits(NamedTuple):
    """Settings of a replica's scheduler and of the router.

    sequences: most in one step.  tokens: most in one step, decoding ones included.  block: tokens of a cache block;
    blocks: of one replica.  prefill_first: prompts stall decoding, else they share its steps.  reserves: a request
    starts only when the blocks of its whole answer are free.  router: index into ROUTERS.  ttft_s, tpot_s: bounds of
    goodput.  first_s: on the way in and out of the engine, in every request's first token and end.
    few: with prefill_first, prompts start only while at most so many decode.  late: what becomes of a request that can
    no longer keep ttft_s (ANY_TIME, BEHIND, TURNED_DOWN); unless ANY_TIME, prompts keep a step within tpot_s.
    asks: a function of the user decides each step (deciding.py).  ranks: replicas in a row that step together.
    sends: whether a prefilled request goes to a decode replica.
    return_s: in a closed loop, from the end of a request until the next one reaches the scheduler (closed.py): over the
    client, with the way out of the server and in again.

    unit: tokens of a unit of the prefix cache (prefix.py), 0 without one; unit_blocks: cache blocks of a unit;
    key_stride: a unit is named by each so manieth key of an arrival.  margin: requests by which the router prefix lets
    a replica with a longer cached prefix exceed the least loaded one.
    ahead: steps ahead of which the engine schedules, 0 or 1 (ahead.py).
    spare: free blocks without which no prompt joins decoding sequences, nor a second one an empty step.
    follows: what comes next depends on what is done (agents.py), so that the loop stops when requests leave.
    swap_s: seconds of one cache block on the link to the host, 0 where what is preempted is computed again; swap_w:
    power of a replica while it waits for that link.
    """

    sequences: int
    tokens: int
    block: int
    blocks: int
    prefill_first: bool
    reserves: bool
    router: int
    ttft_s: float
    tpot_s: float
    first_s: float
    few: int = ALL
    late: int = 0
    asks: bool = False
    ranks: int = 1
    sends: bool = False
    return_s: float = 0.0
    unit: int = 0
    unit_blocks: int = 0
    key_stride: int = 1
    margin: int = 0
    swap_s: float = 0.0
    swap_w: float = 0.0
    follows: bool = False
    ahead: int = 0
    spare: int = 0


ANY_TIME, BEHIND, TURNED_DOWN = range(3)
"""requests that come too late are served as any other, after the others, or not at all"""
STARTS, STALL_S, JOULES, BUSY_S, OWN_S = range(5)
"""columns of Fleet.clock: start of the planned steps; seconds that prompts have made decoding wait since its last step;
joules and busy seconds so far; seconds of the planned steps that a rank computes itself (lockstep.py)"""
STEPS, COUNTER, DECODING, CONTEXT, FREE, FILLING, STALLED, CALLED = range(8)
"""columns of Fleet.counts: decode steps planned and done; sequences that decode, and their cached tokens; free blocks;
sequences whose prompt is being prefilled; sequences that wait for prompts; 1 while a new request is to be noticed"""
HEAD, TAIL, QUEUED, OWED, OWED_TOKENS, ADMITTED, COMMITTED = range(8, 15)
"""of the waiting line: its ends and length; requests and tokens routed here and not done; requests admitted so far;
blocks that those which run will have at their ends"""
LATE_HEAD, LATE_TAIL, LATE_QUEUED, GATE = range(15, 19)
"""of the line of requests that are too late: its ends and length; 1 while prompts may start (few)"""
UNDECIDED, MAY_PREFILL, MAY_ADMIT, MAY_DECODE = range(19, 23)
"""1 while the user's function is to be asked, and what it decided: prompt tokens, requests to admit, 0 to stall"""
SINCE_S, PAID_S, SEEN_S = range(5, 8)
"""columns of Fleet.clock: begin of the status; seconds paid for before; busy seconds when last looked at (scaling)"""
PROMPT_S, PROMPT_J, SHARED_S, SHARED_J, SHARED_WORK = range(8, 13)
LINK_S, BEGUN_S = 13, 14
"""of Fleet.clock, for prices by kind of token (kinds.py): seconds and joules that prompts added to steps; those of them
for attention to tokens found in a prefix cache; and the latter's token-contexts in the planned step; and seconds
on the link to the host that the next step waits for; start of the last of the planned steps (ahead.py)"""
STATUS, CHANCE, INCOMING = range(23, 26)
"""columns of Fleet.counts: one of UP..OFF; random state; requests whose cache comes from a prefill replica"""
SEND_HEAD, SEND_TAIL, SEND_LENGTH, LAND_HEAD, LAND_TAIL, LAND_LENGTH, HELD = range(26, 33)
"""lines of requests: prefilled here, before their transfer; arrived here, before their first step.  HELD: requests
prefilled here whose cache has not left yet"""
UP, STARTING, DOWN, DRAINING, OFF = range(5)
"""of a replica: serving; starting, paid for and not serving; failed, in repair; serving what it has; not paid for"""
IDLE, OLDEST, NEWEST, UNUSED = range(33, 37)
"""of the prefix cache: units that nobody holds, the ends of their order of use, the first unused entry of its table"""
COLUMNS = 37
KEY, REFERENCES, OLDER, NEWER, CHAINED, BUCKET = range(6)
"""rows of Fleet.prefix. Of an entry: key, sequences that hold it, neighbours in order of use, next of its bucket (or
next unused entry).  BUCKET: first entry of each bucket"""
REQUEST, BASE, END, BORN = range(4)
"""columns of Fleet.slots: a decoding sequence has BASE + COUNTER cached tokens and is done when COUNTER reaches END"""
FILL_REQUEST, FILL_CACHED, FILL_LEFT, FILL_CHUNK, FILL_BORN = range(4, 9)
"""of a prefilling one: cached tokens, prompt tokens left and in the planned step; BORN: in order of admission"""
ARRIVAL_S, FIRST_S, LAST_S, HELD_S = range(4)
"""columns of Pool.clock: arrival; first token, and last one before a preemption (nan: none yet); begin of a wait in the
central line, in that of its replica, or for a transfer"""
PROMPT, OUTPUT, CACHED, GENERATED, FOLLOWING, NUMBER, LATE, RETRIES = range(8)
"""columns of Pool.counts: tokens of the prompt, the answer, found in a prefix cache, generated before a preemption; the
next in a waiting line; the number in order of arrival; 1 for one known to be too late; failures that it has met"""
KEYS_AT, KEYS, SHARED, HOSTED = range(8, 12)
"""of the prefix cache: the first of its keys in Pool.keys, how many, and for how many a running one holds the units;
tokens of a preempted one whose cache is in the memory of the host"""


UNITS, LOWER_S, PEAK, AT_ROW, NOW_S = range(5)
"""of Fleet.scaling: units; since when fewer would do (infinite: no), and the most of these; row of the schedule; time
of the last change"""
REQUEST_SENT, RECEIVER = range(2)
"""columns of Fleet.links: the request whose cache is on its way, and the replica that it goes to"""
NEXT, RANDOM, LINE_HEAD, LINE_TAIL, LINE_LENGTH, SEED, ENTRIES, FOLLOWED, NOTICED = range(9)
"""columns of Fleet.router: next replica in turn, random state, ends and length of the central line, the seed; replicas
[0, ENTRIES) are those that requests are routed to; in a closed loop, requests that have a time of arrival; requests
turned away whose place has been offered to the central line"""


class Fleet(NamedTuple):
    """Replicas: first those that only prefill, if there are any.

    ends: times of the next events, infinite without any: [R] ends of the planned steps, [L] of the transfers on links,
    and, where replicas fail or their number changes, [R] ends of their status and [1] of the next look at their number.
    clock [R, 15], counts [R, 37], slots [R, 9, M], links [L, 2], scaling [5]: by the columns above.
    residues [R, B]: decoding slots by BASE mod B.  router [9]: by the columns above.
    prefix [R, 6, S]: tables of the prefix cache, by the rows above.

    Few arrays with many columns, as compiling takes time in proportion to the number of arrays.
    """

    ends: Values
    clock: Values
    counts: Counts
    slots: Counts
    residues: Counts
    router: Counts
    links: Counts
    scaling: Values
    prefix: Counts


class Pool(NamedTuple):
    """Requests in flight, by place: clock [Q, 4], counts [Q, 12]. spare [Q]: a stack of free places.

    spares [2]: its height now and after the last arrival; places above the latter are of requests that have left since.

    keys: names of their units of the prefix cache; keyed [2]: how many are there, of all requests that came so far.
    """

    clock: Values
    counts: Counts
    spare: Counts
    spares: Counts
    keys: Counts
    keyed: Counts


def new_fleet(
    replicas: int, limits: Limits, seed: int, prefills: int = 0, filling: Limits | None = None, lanes: int = 1,
    changes: bool = False,
) -> Fleet:  # fmt: skip
    """Idle replicas: `prefills` that only prefill, with limits of their own, and `replicas` others.

    lanes: transfers that a prefill replica sends at a time.  changes: replicas may fail, or their number change.
    """
    each = [*[filling or limits] * prefills, *[limits] * replicas]
    total, links = len(each), prefills * lanes
    counts = np.zeros((total, COLUMNS), dtype=np.int64)
    counts[:, FREE] = [one.blocks for one in each]
    counts[:, HEAD] = counts[:, TAIL] = counts[:, OLDEST] = counts[:, NEWEST] = NONE
    counts[:, CHANCE] = 1 + np.random.default_rng([seed, 1]).integers(2147483646, size=total)
    prefix = np.full((total, 6, TABLE if each[0].unit else 0), NONE, dtype=np.int64)
    prefix[:, REFERENCES], prefix[:, CHAINED, :-1] = 0, np.arange(1, prefix.shape[2])
    return Fleet(
        ends=np.full(total + links + (total + 1 if changes else 0), np.inf),
        clock=np.zeros((total, 15)),
        counts=counts,
        slots=np.zeros((total, 9, max(one.sequences for one in each)), dtype=np.int64),
        residues=np.zeros((total, max(one.block for one in each)), dtype=np.int64),
        router=np.array([0, seed % 2147483646 + 1, NONE, NONE, 0, seed, prefills or replicas, 0, 0], dtype=np.int64),
        links=np.full((links, 2), NONE, dtype=np.int64),
        scaling=np.array([0.0, np.inf, 0.0, 0.0, 0.0]),
        prefix=prefix,
    )


def new_pool(places: int) -> Pool:
    """Room for `places` requests in flight."""
    return Pool(
        clock=np.full((places, 4), np.nan),
        counts=np.zeros((places, 12), dtype=np.int64),
        spare=np.arange(places - 1, -1, -1, dtype=np.int64),
        spares=np.array([places, places], dtype=np.int64),
        keys=np.zeros(0, dtype=np.int64),
        keyed=np.zeros(2, dtype=np.int64),
    )


def larger(pool: Pool) -> Pool:
    """The same requests with twice the room."""
    size, spares = len(pool.clock), int(pool.spares[0])
    grown = new_pool(2 * size)
    grown.clock[:size], grown.counts[:size] = pool.clock, pool.counts
    grown.spare[:size] = np.arange(2 * size - 1, size - 1, -1)
    grown.spare[size : size + spares] = pool.spare[:spares]
    grown.spares[:] = size + spares
    return grown._replace(keys=pool.keys, keyed=pool.keyed)


def with_room_for_keys(pool: Pool, wanted: int) -> Pool:
    """The same requests, their keys moved together, with room for at least `wanted` more."""
    in_flight = np.ones(len(pool.clock), dtype=bool)
    in_flight[pool.spare[: pool.spares[0]]] = False
    places = np.flatnonzero(in_flight)
    counts = pool.counts[places, KEYS]
    ends = np.cumsum(counts)
    used = int(ends[-1]) if len(ends) else 0
    keys = np.zeros(max(2 * used, used + wanted, len(pool.keys)), dtype=np.int64)
    for place, count, end in zip(places, counts, ends, strict=True):
        first = pool.counts[place, KEYS_AT]
        keys[end - count : end] = pool.keys[first : first + count]
        pool.counts[place, KEYS_AT] = end - count
    pool.keyed[0] = used
    return pool._replace(keys=keys)
