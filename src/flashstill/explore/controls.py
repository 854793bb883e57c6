"""What each part of the page's state may be: names, kinds, bounds, units, and how a text becomes a value.

One table for all readers: the reader of queries, the page's controls (`GET /states`) and their help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.errors import BadInput, printable, shortened, unknown
from flashstill.units import parse_amount, parse_count

CHOICE, CHOICES, COUNT, AMOUNT, EDITS = "choice", "choices", "count", "amount", "edits"
NUMBERS = (COUNT, AMOUNT)
MOST_EDITS, LONGEST_EDIT = 16, 160
POWERS = tuple(2**power for power in range(17))
STEPS = tuple(float(f"{digit}e{power}") for power in range(-3, 3) for digit in (1, 2, 5))


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One value of a control, and what the page calls it."""

    value: str
    label: str

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return {"value": self.value, "label": self.label}


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A part of the state. key: its name in a query; option: what the command line calls it, for messages.

    low, high: bounds of a number in `unit`, both included.  stops: the values that a slider goes through.  optional:
    may be left out, which is then its meaning.  most: how many values a list may have.
    """

    key: str
    label: str
    kind: str
    help: str
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    stops: tuple[float, ...] = ()
    optional: bool = False
    most: int = 1

    def read(self, text: str, choices: Sequence[Choice], resolve: Callable[[str], str]) -> Any:
        """The value of a text of the query; BadInput for what cannot be. resolve: the name of a choice as spelled."""
        plain = text.strip()
        if self.optional and not plain:
            return None
        if self.kind in NUMBERS:
            return self._number(plain)
        if self.kind == CHOICE:
            return self._known(plain, choices, resolve)
        names = tuple(dict.fromkeys(self._known(word, choices, resolve) for word in plain.split(",") if word.strip()))
        if not 1 <= len(names) <= self.most:
            raise BadInput(f"{self.key} takes 1 to {self.most} names with commas between, not {len(names)}")
        return names

    def _number(self, plain: str) -> float | int:
        number = parse_count(plain) if self.kind == COUNT else parse_amount(plain, self.unit)
        what = "a whole number" if self.kind == COUNT else f"a number{f' of {self.unit}' if self.unit != '1' else ''}"
        if number is None:
            raise BadInput(f"{self.key} is {quoted(plain)}, not {what}")
        if not self.low <= number <= self.high:
            raise BadInput(f"{self.key} must lie between {self.low:,.9g} and {self.high:,.9g}, not {number:,.9g}")
        return number

    def _known(self, word: str, choices: Sequence[Choice], resolve: Callable[[str], str]) -> str:
        known = {choice.value: choice.value for choice in choices}
        name = resolve(word.strip()) if word.strip() not in known else word.strip()
        if name not in known:
            raise BadInput(unknown(self.key.replace("_", " "), printable(word.strip()), known))
        return known[name]

    def as_dict(self, default: Any, choices: Sequence[Mapping[str, Any]], high: float | None = None) -> dict[str, Any]:
        """What the page needs to build the control. high: a bound that depends on the state, where it is lower."""
        common = {
            "name": self.key, "label": self.label, "kind": "number" if self.kind in NUMBERS else self.kind,
            "unit": self.unit, "help": self.help, "default": default, "optional": self.optional,
        }  # fmt: skip
        if self.kind in NUMBERS:
            top = self.high if high is None else min(self.high, high)
            stops = [stop for stop in self.stops if self.low <= stop <= top]
            return {**common, "whole": self.kind == COUNT, "low": self.low, "high": top, "stops": stops}
        most = {"most": self.most} if self.kind != CHOICE else {}
        return {**common, **most, "choices": list(choices)}


CONTROLS = (
    Control(key="model", label="Model", kind=CHOICE, help="a model of the catalogue"),
    Control(key="models", label="Models", kind=CHOICES, most=8, help="models of several sizes"),
    Control(key="chip", label="Chip", kind=CHOICE, help="a chip of the fact rows"),
    Control(key="chips_from", label="Chips to compare", kind=CHOICES, most=6, help="chips side by side"),
    Control(key="chips", label="Number of chips", kind=COUNT, low=1, high=1024, stops=POWERS[:11], optional=True,
            help="left out: the fewest that hold what is asked for"),
    Control(key="max_chips", label="Most chips", kind=COUNT, low=1, high=256, stops=POWERS[:9],
            help="the most chips of one configuration"),
    Control(key="batch", label="Batch", kind=COUNT, low=1, high=65536, stops=POWERS, unit="requests",
            help="requests in flight"),
    Control(key="context", label="Context", kind=COUNT, low=1, high=2**24, unit="tokens",
            stops=tuple(2**power for power in range(4, 25)), help="tokens cached for each sequence"),
    Control(key="isl", label="Prompt", kind=COUNT, low=1, high=2**24, unit="tokens",
            stops=tuple(2**power for power in range(4, 25)), help="tokens of each prompt"),
    Control(key="osl", label="Answer", kind=COUNT, low=1, high=2**20, unit="tokens",
            stops=tuple(2**power for power in range(17)), help="tokens of each answer"),
    Control(key="precision", label="Weights in", kind=CHOICE, help="format of weights and arithmetic"),
    Control(key="kv_precision", label="Cache in", kind=CHOICE, optional=True,
            help="format of the cache; left out: what goes with the weights"),
    Control(key="memory", label="Memory", kind=CHOICE, optional=True,
            help="where weights and cache lie; left out: the chip's main memory, and both in a search"),
    Control(key="engine", label="Engine", kind=CHOICE, optional=True,
            help="serving engine; left out: the default of the chip"),
    Control(key="price", label="Dollars", kind=CHOICE, help="basis of all dollars"),
    Control(key="max_ttft", label="Longest time to first token", kind=AMOUNT, low=1e-6, high=1e6, unit="s",
            stops=STEPS, optional=True, help="a bound; left out: none"),
    Control(key="max_tpot", label="Longest time per token", kind=AMOUNT, low=1e-9, high=1e6, unit="s",
            stops=STEPS, optional=True, help="a bound; left out: none"),
    Control(key="min_throughput", label="Least output tokens a second", kind=AMOUNT, low=1e-6, high=1e12, unit="1",
            stops=tuple(float(10**power) for power in range(7)), optional=True, help="a bound; left out: none"),
    Control(key="set", label="What if", kind=EDITS, most=MOST_EDITS,
            help="edits of fact rows, as h100-sxm.memory_bytes_per_s=5e12"),
)  # fmt: skip
BY_KEY = {control.key: control for control in CONTROLS}


def read_edits(texts: Sequence[str]) -> tuple[str, ...]:
    """The what-if edits as they stand in the query; the fact table says what is wrong with one of them."""
    if len(texts) > MOST_EDITS:
        raise BadInput(f"set stands {len(texts)} times in the query; it takes up to {MOST_EDITS} edits")
    for text in texts:
        if len(text) > LONGEST_EDIT:
            raise BadInput(f"an edit has {len(text):,} characters; it takes up to {LONGEST_EDIT}")
    return tuple(text.strip() for text in texts)


def quoted(text: str) -> str:
    """A user's text as a message shows it."""
    return repr(printable(shortened(text, 40)))
