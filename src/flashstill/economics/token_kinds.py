"""Dollars or joules of a million tokens by kind: found in a prefix cache, prefilled, and put out.

Each kind pays for the part of the whole that it causes (cost/closed_form.py, or by events in simulate/kinds.py):

    output    the decode steps of their batch and contexts
    input     what prompt tokens that are computed add to steps, as if nothing had been found in a cache before them,
              and the first token, which comes with its prompt
    cached    what attention to the tokens found in a cache adds to that

Then the tokens of each kind, times their price, add up to what all of it costs.  Assumed of cached tokens: they lie in
the memory of the chips that decode, and their room there is paid by the requests that run; what it costs to keep
them until they are needed is told apart (api_prices.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from flashstill.units import TOKENS_PER_MILLION

KINDS = ("cached", "input", "output")


def per_million(
    total: float | None, parts: Mapping[str, float], tokens: Mapping[str, float]
) -> dict[str, float | None]:
    """A total by kind of token, over a million tokens of each; None for a kind of which there are none.

    parts: what each kind has caused, in any unit.  total: None if it is not known.
    """
    caused = sum(parts.values())
    return {
        kind: total * parts[kind] / caused / tokens[kind] * TOKENS_PER_MILLION
        if total is not None and tokens[kind] and caused
        else None
        for kind in KINDS
    }
