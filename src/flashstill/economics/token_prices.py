"""What an API asks for tokens, and the tokens of a request that are paid by kind."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flashstill.errors import BadInput, MissingFact, shortened, unknown
from flashstill.facts import Facts
from flashstill.units import TOKENS_PER_MILLION, parse_amount

OWNER = "api-"
"""beginning of the name that owns the rows of an API price: api-MODEL"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Tokens of one kind of work: of a request, of a day.  output: thinking included."""

    cached: float
    input: float
    output: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenPrice:
    """Dollars per million tokens found in a cache, of other input and of output (thinking included); its source.

    name: of the model with these rows; empty for a user's own price.
    """

    cached: float
    input: float
    output: float
    source: str
    as_of: str
    name: str = ""

    def usd(self, tokens: Tokens) -> float:
        """Dollars for so many tokens."""
        paid = self.cached * tokens.cached + self.input * tokens.input + self.output * tokens.output
        return paid / TOKENS_PER_MILLION


def tokens_of(input_tokens: float, output_tokens: float, cached_ratio: float, thinking_ratio: float) -> Tokens:
    """Tokens by kind. cached_ratio: share of the input found in a cache; thinking_ratio: thinking tokens per one of the
    answer, in addition to it."""
    cached = input_tokens * cached_ratio
    return Tokens(cached=cached, input=input_tokens - cached, output=output_tokens * (1.0 + thinking_ratio))


def api_price(facts: Facts, name: str) -> TokenPrice | None:
    """The price that fact rows know of a model's name, or None.  Without a row, cached input costs as other input."""
    owner = OWNER + name.lower()
    paid = {kind: facts.find(owner, f"usd_per_million_{kind}") for kind in ("input", "cached", "output")}
    entered, left = paid["input"], paid["output"]
    if entered is None and left is None:
        return None
    if entered is None or left is None:
        raise MissingFact(f"{owner} has a price of {'output' if entered is None else 'input'} only; add the other row")
    cached = paid["cached"]
    note = "; no discount for cached input is known" if cached is None else ""
    return TokenPrice(
        cached=(cached or entered).value,
        input=entered.value,
        output=left.value,
        source=f"{entered.source}{note}",
        as_of=entered.as_of,
        name=name,
    )


def asked_price(facts: Facts, text: str) -> TokenPrice:
    """A price as a user writes it: IN,CACHED,OUT in dollars per million tokens, or the name of a model with rows."""
    if "," not in text:
        known = api_price(facts, text)
        if known is None:
            names = sorted({name.removeprefix(OWNER) for name, _ in facts.rows if name.startswith(OWNER)})
            raise BadInput(f"--api-price: {unknown('API price', text, names)}; or give IN,CACHED,OUT")
        return known
    parts = [parse_amount(part, "USD") for part in text.split(",")]
    prices = [part for part in parts if part is not None]
    if not len(prices) == len(parts) == 3:
        raise BadInput(
            f"--api-price is {shortened(text)!r}, not IN,CACHED,OUT: three numbers, in dollars per million tokens"
        )
    return price_of(*prices)


def price_of(entered: float, cached: float, left: float) -> TokenPrice:
    """A user's own price, in dollars per million tokens in, in from the cache, and out."""
    for name, value in (("IN", entered), ("CACHED", cached), ("OUT", left)):
        if not 0.0 <= value < math.inf:
            raise BadInput(f"--api-price: {name} must be at least 0 dollars per million tokens, not {value:g}")
    return TokenPrice(cached=cached, input=entered, output=left, source="--api-price", as_of="as asked")
