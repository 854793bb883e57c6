"""Speculative decoding: how many drafts of a step each sequence accepts, drawn anew for every step.

At least i of g drafts are accepted with probability a_1 a_2 ... a_i (cost/phases.py); one uniform number decides.  The
number is a hash of the seed, the request and its place in the answer, so that the draws of a request are the same
whatever else happens: policies are compared on the same drafts.
"""

from __future__ import annotations

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.slots import blocks_of
from flashstill.simulate.state import SEED, Fleet, Limits, Pool
from flashstill.simulate.tables import StepTables, Values

LARGEST = 0x7FFFFFFF
"""31 bits: products of two stay within a signed integer of 64 bits"""


@compiled
def mixed(number: int) -> int:
    """A hash of 31 bits, of the form of MurmurHash3's finalizer (Appleby 2011): shifts and odd multipliers in turn."""
    number = ((number >> 16) ^ number) * 0x45D9F3B & LARGEST
    number = ((number >> 15) ^ number) * 0x2C1B3C6D & LARGEST
    return (number >> 16) ^ number


@compiled
def accepted_drafts(accepted: Values, seed: int, request: int, left: int) -> int:
    """Drafts accepted of a request with so many tokens left. accepted [g]: probability of at least 1, 2, ... g."""
    number = mixed(mixed(mixed(seed & LARGEST) ^ (request & LARGEST)) ^ (left & LARGEST))
    uniform, count = (number + 0.5) / (LARGEST + 1.0), 0
    while count < len(accepted) and uniform < accepted[count]:
        count += 1
    return count


@compiled
def accept_drafts(fleet: Fleet, pool: Pool, tables: StepTables, limits: Limits, r: int) -> int:
    """After a step that gave each decoding sequence one token: add the accepted drafts; returns their number."""
    total, counter = 0, fleet.counts[r, field.COUNTER]
    for slot in range(fleet.counts[r, field.DECODING]):
        left = fleet.slots[r, field.END, slot] - counter
        number = pool.counts[fleet.slots[r, field.REQUEST, slot], field.NUMBER]
        more = min(accepted_drafts(tables.accepted, fleet.router[SEED], number, left), left)
        if more == 0:
            continue
        base = fleet.slots[r, field.BASE, slot]
        cached = base + counter
        fleet.counts[r, field.FREE] -= blocks_of(cached + more, limits.block) - blocks_of(cached, limits.block)
        fleet.residues[r, base % limits.block] -= 1
        fleet.residues[r, (base + more) % limits.block] += 1
        fleet.slots[r, field.BASE, slot] = base + more
        fleet.slots[r, field.END, slot] -= more
        total += more
    fleet.counts[r, field.CONTEXT] += total
    return int(total)
