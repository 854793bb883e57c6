"""What-if edits of fact rows: NAME.QUANTITY=AMOUNT, or NAME.QUANTITY[CONDITION]=AMOUNT to select one of several rows.

A row that the chip lacks is added if another chip has that quantity; the new row takes its unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from flashstill.errors import BadInput, MissingFact, shortened, unknown
from flashstill.facts.lawful import complaint
from flashstill.facts.row import Fact
from flashstill.units import parse_amount, show

WHAT_IF = "what-if"
"""kind of a row that was changed or added here"""
Rows = Mapping[tuple[str, str], tuple[Fact, ...]]
NAMED_BY_CONDITION = ("flops_per_s", "memory_bytes", "memory_bytes_per_s", "host_bytes")
"""quantities whose condition selects the row, by precision or memory type"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """One changed or added row; before is None if added. target: NAME.QUANTITY, with [CONDITION] if ambiguous."""

    target: str
    name: str
    quantity: str
    condition: str
    unit: str
    before: float | None
    after: float

    def __str__(self) -> str:
        """The line that commands print about this edit."""
        if self.before is None:
            return f"added: {self.target} {show(self.after, self.unit)}"
        return f"edited: {self.target} {show(self.before, self.unit)} -> {show(self.after, self.unit)}"

    def as_json(self) -> dict[str, Any]:
        """Values in the row's unit; `before` is null for an added row."""
        return asdict(self)


def edited(rows: Rows, owner_of: Mapping[str, str], classes: set[str], text: str) -> tuple[dict[str, Fact], list[Edit]]:
    """Apply the edit `text`: the resulting rows of one (name, quantity) by condition, and the changes made.

    owner_of: normalised spelling -> owner of rows.  classes: owners that are chips or classes of chips; only they can
    be given rows that they lack.
    """
    target, equals, amount = text.partition("=")
    path, bracket, condition = target.strip().partition("[")
    if not equals or (bracket and not condition.endswith("]")) or "." not in path:
        raise BadInput(_unreadable(text))
    owner, quantity = _split(path.strip(), owner_of, rows)
    condition = condition.removesuffix("]").strip()
    existing = rows.get((owner, quantity), ())
    if existing and not bracket:
        changed = list(existing)
    elif existing and (changed := [fact for fact in existing if _names(fact.condition, condition)]):
        pass
    else:
        changed = [_new(rows, owner, quantity, condition, classes, existing)]
    unit = changed[0].unit
    value = parse_amount(amount, unit)
    if value is None:
        raise BadInput(_unreadable(text, unit))
    wrong = complaint(quantity, unit, value)
    if wrong:
        raise BadInput(f"--set {shortened(text)}: {wrong}")
    by_condition = {fact.condition: fact for fact in existing}
    present = set(by_condition)
    edits = []
    for fact in changed:
        before = fact.value if fact.condition in present else None
        made = replace(fact, value=value, low=value, high=value, kind=WHAT_IF, source="--set")
        by_condition[fact.condition] = made
        named = f"[{fact.condition}]" if fact.condition and (bracket or len(existing) > 1) else ""
        edits.append(
            Edit(
                target=f"{owner}.{quantity}{named}",
                name=owner,
                quantity=quantity,
                condition=fact.condition,
                unit=unit,
                before=before,
                after=value,
            )
        )
    return by_condition, edits


def plain(name: str) -> str:
    """A name normalised for comparison: case, dashes and blanks are ignored."""
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def _unreadable(text: str, unit: str = "") -> str:
    of = f"in {unit}, " if unit not in ("", "1") else ""
    return (
        f"cannot read --set {shortened(text)!r}; write NAME.QUANTITY=NUMBER or NAME.QUANTITY[CONDITION]=NUMBER,"
        f" the number {of}positive"
    )


def _split(path: str, owner_of: Mapping[str, str], rows: Rows) -> tuple[str, str]:
    """Split a dotted path into (owner, quantity); both may contain dots."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        owner = owner_of.get(plain(".".join(parts[:count])))
        if owner is not None:
            spelled = plain(".".join(parts[count:]))
            known = {what for _, what in rows}
            quantity = next((what for what in sorted(known) if plain(what) == spelled), None)
            if quantity is not None:
                return owner, quantity
            existing = sorted({what for name, what in rows if name == owner}) or sorted(known)
            raise MissingFact(
                unknown("quantity", f"{owner}.{'.'.join(parts[count:])}", (f"{owner}.{what}" for what in existing))
            )
    raise MissingFact(unknown("name in --set", parts[0], sorted(set(owner_of.values()))))


def _names(condition: str, text: str) -> bool:
    """Whether `text` matches a condition: the whole, its first word, or the part before a comma."""
    low, asked = condition.lower(), text.lower()
    return asked in (low, low.partition(" ")[0], low.partition(",")[0])


def _new(rows: Rows, owner: str, quantity: str, condition: str, classes: set[str], existing: Iterable[Fact]) -> Fact:
    """A new row for `owner`, modelled on a row of another chip."""
    models = [fact for (name, what), facts in rows.items() if what == quantity and name in classes for fact in facts]
    models.sort(key=lambda fact: fact.per != "chip")  # prefer rows of chips over those of classes
    if owner not in classes or not models:
        conditions = sorted(fact.condition for fact in existing)
        if conditions:
            raise MissingFact(unknown(f"condition of {owner}.{quantity}", condition, conditions))
        have = sorted({what for name, what in rows if name == owner})
        raise MissingFact(unknown("quantity", f"{owner}.{quantity}", (f"{owner}.{what}" for what in have)))
    if quantity in NAMED_BY_CONDITION or "." in quantity:  # such as matmul.floor_s, a coefficient in one precision
        alike = [fact for fact in models if _names(fact.condition, condition)]
        model = min(alike, key=lambda fact: fact.condition.lower() != condition.lower(), default=None)
        conditions = sorted({fact.condition for fact in existing or models} - {""})
        if model is None and not condition:
            some = ", ".join(conditions[:5])
            raise BadInput(
                f"--set {owner}.{quantity} must say in brackets of what, as in [{conditions[0]}]; known: {some}"
            )
        if model is None:
            raise MissingFact(unknown(f"condition of {owner}.{quantity}", condition, conditions))
    elif condition:
        conditions = sorted({fact.condition for fact in existing or models if fact.condition})
        raise MissingFact(unknown(f"condition of {owner}.{quantity}", condition, conditions))
    else:
        model = models[0]
    return replace(model, name=owner, note="", condition=model.condition if condition else "")
