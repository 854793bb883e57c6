"""The state of the page: a query string becomes a validated state, and a state its canonical query string.

    view=front&model=qwen3-8b&chips_from=h100-sxm,tpu-v6e&max_tpot=0.02&set=h100-sxm.memory_bytes_per_s%3D5e12

What is left out has the default of the page.  Every mistake is a BadInput of one sentence.  The lengths of all parts
are bounded here; what a view computes is bounded before it starts (explore/limits.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from flashstill.errors import BadInput, unknown
from flashstill.explore.catalogue import Catalogue
from flashstill.explore.controls import BY_KEY, CONTROLS, EDITS, quoted, read_edits

LONGEST_QUERY, MOST_FIELDS = 4096, 48
VIEW = "view"


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What the page shows. Names are those of the query; `set` is the list of edits; None where left out."""

    view: str
    model: str
    models: tuple[str, ...]
    chip: str
    chips_from: tuple[str, ...]
    chips: int | None
    max_chips: int
    batch: int
    context: int
    isl: int
    osl: int
    precision: str
    kv_precision: str | None
    memory: str | None
    engine: str | None
    price: str
    max_ttft: float | None
    max_tpot: float | None
    min_throughput: float | None
    set: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def read_state(query: str, catalogue: Catalogue) -> State:
    """The state of a query string (without the token); BadInput for a mistake."""
    if len(query) > LONGEST_QUERY:
        raise BadInput(f"the query has {len(query):,} characters; a page's state has up to {LONGEST_QUERY:,}")
    given = _fields(query)
    views = catalogue.views
    view = given.get(VIEW, [views[0]])[0].strip()
    if view not in views:
        raise BadInput(unknown("view", quoted(view).strip("'"), views))
    values: dict[str, Any] = {VIEW: view}
    for control in CONTROLS:
        if control.kind == EDITS:
            values[control.key] = read_edits(given.get(control.key, []))
        elif control.key in given:
            spelled = catalogue.spelled(control.key)
            values[control.key] = control.read(given[control.key][0], catalogue.choices(control.key), spelled)
    return State(**{**catalogue.defaults(values.get("model"), values.get("chip")), **values})


def _fields(query: str) -> dict[str, list[str]]:
    """The texts of each name in a query; all but edits stand once."""
    query = query.strip("&")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict",
                          max_num_fields=MOST_FIELDS)  # fmt: skip
    except (ValueError, UnicodeError) as error:
        raise BadInput(f"the query cannot be read as NAME=VALUE&... of up to {MOST_FIELDS} fields") from error
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        if not (name + text).isprintable():
            raise BadInput(f"the query has a character that cannot be printed, at {quoted(name)}")
        if name != VIEW and name not in BY_KEY:
            raise BadInput(unknown("name in the query", quoted(name).strip("'"), (VIEW, *BY_KEY)))
        given.setdefault(name, []).append(text)
    for name, texts in given.items():
        if len(texts) > 1 and (name == VIEW or BY_KEY[name].kind != EDITS):
            raise BadInput(f"{name} stands {len(texts)} times in the query; give it once")
    return given


def query_of(state: State) -> str:
    """The canonical query of a state: every part, in the order of the controls; `read_state` gives the same state."""
    pairs: list[tuple[str, str]] = [(VIEW, state.view)]
    for control in CONTROLS:
        value = getattr(state, control.key)
        if control.kind == EDITS:
            pairs += [(control.key, text) for text in value]
        elif value is None:
            pairs.append((control.key, ""))
        else:
            pairs.append((control.key, written(value)))
    return urlencode(pairs)


def written(value: Any) -> str:
    """A value as the query and the command line write it; a number with all its digits."""
    if isinstance(value, tuple):
        return ",".join(value)
    return repr(value) if isinstance(value, float) else str(value)
