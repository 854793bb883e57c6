"""Choices of memory in numbers: bytes, rate, dollars, edge, area and what stands on the interposer, one value each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.codesign.designs import Memory, Values, row_of
from flashstill.errors import MissingFact
from flashstill.facts import Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryNumbers:
    """Numbers of choices of memory, one a choice. weights_: of the kind that holds the weights, 0 without its own."""

    bytes: Values
    bytes_per_s: Values
    weights_bytes: Values
    weights_bytes_per_s: Values
    usd: Values
    stacks: Values
    phy_mm2: Values
    edge_mm: Values
    interposer_mm2: Values
    placed: Values
    beneath_mm2: Values
    bonded_ratio: Values
    heat_ratio: Values


def memory_numbers(facts: Facts, choices: tuple[Memory, ...]) -> MemoryNumbers:
    """The numbers of choices of memory; MissingFact for a kind without rows."""

    def per(quantity: str, with_weights: bool = True, none: float = 0.0) -> Values:
        def of(kind: str, stacks: int) -> float:
            return stacks * row_of(facts, kind, quantity) if stacks else none

        both = [of(one.kind, one.stacks) + (of(one.weights_kind, one.weights_stacks) if with_weights else 0.0)
                for one in choices]  # fmt: skip
        return np.array(both)

    def own(quantity: str) -> Values:
        return np.array([one.weights_stacks * row_of(facts, one.weights_kind, quantity) for one in choices])

    for one in choices:
        for kind in {one.kind if one.stacks else "", one.weights_kind} - {""}:
            if not row_of(facts, kind, "stack_bytes"):
                raise MissingFact(f"no fact row gives stack_bytes of {kind}; add one with --facts DIR")

    def product(quantity: str) -> Values:
        rows = [(row_of(facts, one.kind, quantity) or 1.0) ** one.stacks if one.stacks else 1.0 for one in choices]
        return np.array(rows)

    stands = np.array([[row_of(facts, one.kind, "interposer_ratio") * one.stacks, one.weights_stacks *
                        row_of(facts, one.weights_kind, "interposer_ratio")] for one in choices])  # fmt: skip
    area = np.array([[row_of(facts, one.kind, "stack_mm2"), row_of(facts, one.weights_kind, "stack_mm2")]
                     for one in choices])  # fmt: skip
    dollars = [sum(row_of(facts, kind, "stack_bytes") * stacks * row_of(facts, kind, "usd_per_byte")
                   for kind, stacks in ((one.kind, one.stacks), (one.weights_kind, one.weights_stacks)) if stacks)
               for one in choices]  # fmt: skip
    return MemoryNumbers(
        bytes=per("stack_bytes", with_weights=False),
        bytes_per_s=per("stack_bytes_per_s", with_weights=False),
        weights_bytes=own("stack_bytes"),
        weights_bytes_per_s=own("stack_bytes_per_s"),
        usd=np.array(dollars),
        stacks=np.array([float(one.stacks + one.weights_stacks) for one in choices]),
        phy_mm2=per("phy_mm2"),
        edge_mm=per("stack_edge_mm"),
        interposer_mm2=(stands * area).sum(axis=1),
        placed=stands.sum(axis=1),
        beneath_mm2=per("beneath_mm2"),
        bonded_ratio=product("bond_yield_ratio"),
        heat_ratio=np.array([row_of(facts, one.kind, "w_per_mm2_ratio") or 1.0 for one in choices]),
    )
