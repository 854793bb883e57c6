"""The layouts that a search tries: powers of two, and whole experts on every chip beside redundant ones."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

from flashstill.arch import Architecture
from flashstill.parallel import layout_reason, least_redundant
from flashstill.plan.layouts import Degrees


def layouts_of(
    model: Architecture, most: int, redundant: Sequence[int | None] = (None,)
) -> tuple[list[Degrees], Counter[str]]:
    """Layouts in powers of two on up to `most` chips; and rejected ones, counted by reason.

    redundant: numbers of redundant experts to try, None for the fewest that let ep divide.  Beside a number, data
    parallelism that spreads all experts and copies over a divisor of their sum is tried too (72 or 144 for 288).
    """
    powers = [2**power for power in range(most.bit_length()) if 2**power <= most]
    routed = model.routed
    layouts: list[Degrees] = []
    refused = Counter[str]()
    for tp, pp, dp in itertools.product(powers, powers, powers):
        if tp * pp * dp > most or (dp > 1 and not routed):
            continue  # skip: replicas of a dense model equal one replica at a smaller batch
        for ep in [power for power in powers if power <= tp * dp] if routed else [1]:
            copies = dict.fromkeys(least_redundant(model, ep) if number is None else number for number in redundant)
            for number in copies:
                reason = layout_reason(model, tp, pp, ep, dp, number)
                if reason is None:
                    layouts.append(Degrees(tp, pp, ep, dp, number))
                else:
                    refused[reason.split(":")[0]] += 1
    return [*layouts, *_spread(model, most, powers, [number for number in redundant if number])], refused


def _spread(model: Architecture, most: int, powers: Sequence[int], redundant: Sequence[int]) -> Iterator[Degrees]:
    """Layouts with whole experts on every chip, over numbers of chips that are no power of two."""
    experts = {layer.ffn.experts for layer in model.layers if layer.ffn.experts}
    if not experts:
        return
    parts = {number: _divisors(min(experts) + number, most) for number in redundant}
    for number, tp, pp in itertools.product(redundant, powers, powers):
        for ep in parts[number]:
            if ep > most // pp or ep & (ep - 1) == 0 or ep % tp or any((count + number) % ep for count in experts):
                continue
            if layout_reason(model, tp, pp, ep, ep // tp, number) is None:
                yield Degrees(tp, pp, ep, ep // tp, number)


def _divisors(number: int, most: int) -> list[int]:
    """Divisors of a number up to `most`, the smallest first."""
    small = [each for each in range(1, min(math.isqrt(number), most) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small if number // each <= most)})
