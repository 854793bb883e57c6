"""Where a fault can be planted, and the source with it: the operators of Cosmic Ray, one fault drawn for each place.

Left out are places in which a fault changes nothing that a test could see or should: annotations, decorators,
`strict=` of zip, numbers within texts, one more or less of a million, `is` for `==`, and operators that no number of
ours has (bits, shifts).
"""

from __future__ import annotations

import ast
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "flashstill"
ROOMS = ("cost", "parallel", "plan", "workload", "hardware/topology", "distill/losses")
_ARITHMETIC, _COMPARED = "(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)", "(Eq|NotEq|Lt|LtE|Gt|GtE)"
_WANTED = re.compile(
    rf"core/(ReplaceBinaryOperator_{_ARITHMETIC}_(Add|Sub|Mul|Div)|ReplaceBinaryOperator_Bit(And_BitOr|Or_BitAnd)"
    rf"|ReplaceComparisonOperator_({_COMPARED}_{_COMPARED}|Is_IsNot|IsNot_Is)"
    r"|ReplaceUnaryOperator_(USub_UAdd|Delete_\w+)|AddNot|Replace(TrueWithFalse|FalseWithTrue|AndWithOr|OrWithAnd)"
    r"|ReplaceBreakWithContinue|ReplaceContinueWithBreak|NumberReplacer|ZeroIterationForLoop)"
)
Position = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One change of one file. before, after: the lines that differ.  source: the whole file with the fault."""

    file: str
    line: int
    before: str
    after: str
    source: str


def draw(rooms: Sequence[str], count: int, seed: int) -> list[Fault]:
    """`count` faults at as many different places of the rooms, or at all places where there are fewer; by seed."""
    chance = random.Random(seed)
    places = [
        (file, position, choices)
        for room in rooms
        for file in sorted((SOURCE / room).rglob("*.py"))
        for position, choices in sorted(_places(file).items())
    ]
    chance.shuffle(places)
    drawn: list[Fault] = []
    for file, position, choices in places:
        if len(drawn) == count:
            break
        fault = _planted(file, position, *chance.choice(choices))
        if fault:
            drawn.append(fault)
    return drawn


def _places(file: Path) -> dict[Position, list[tuple[Any, int]]]:
    """Operators that apply at each position (line from 1, column), with their count of earlier places in the file."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    text = file.read_text(encoding="utf-8")
    nodes, left_out = list(ast_nodes(get_ast(text))), list(_left_out(ast.parse(text)))
    places: dict[Position, list[tuple[Any, int]]] = defaultdict(list)
    for name in filter(_WANTED.fullmatch, plugins.operator_names()):
        operator = plugins.get_operator(name)()
        positions = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, start in enumerate(positions):
            if not any(first <= start < last for first, last in left_out):
                places[start].append((operator, occurrence))
    return places


def _left_out(tree: ast.AST) -> Iterator[tuple[Position, Position]]:
    """Ranges of annotations, decorators, zip's strictness and texts."""
    for node in ast.walk(tree):
        parts: list[ast.expr | None] = list(getattr(node, "decorator_list", ()))
        parts += [getattr(node, "annotation", None), getattr(node, "returns", None)]
        parts += [word.value for word in getattr(node, "keywords", ()) if word.arg == "strict"]
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and _large(node.value)):
            parts.append(node)
        for part in parts:
            if part is not None and part.end_lineno is not None and part.end_col_offset is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def _large(value: object) -> bool:
    """Whether one more or less is less than a millionth."""
    return isinstance(value, int | float) and abs(value) >= 1e6


def _planted(file: Path, position: Position, operator: Any, occurrence: int) -> Fault | None:
    from cosmic_ray.mutating import mutate_code

    text = file.read_text(encoding="utf-8")
    source = mutate_code(text, operator, occurrence)
    try:
        same = source is None or ast.dump(ast.parse(source)) == ast.dump(ast.parse(text))
    except SyntaxError:
        return None
    if source is None or same:
        return None
    return fault_of(file, text, source, position[0])


def fault_of(file: Path, text: str, source: str, line: int) -> Fault:
    """A fault by the text before and after it."""
    lines, changed = text.splitlines(), source.splitlines()
    pairs = [(old.strip(), new.strip()) for old, new in zip(lines, changed, strict=False) if old != new]
    before, after = pairs[0] if pairs else (lines[line - 1].strip(), "")
    return Fault(file=str(file.relative_to(ROOT)), line=line, before=before, after=after, source=source)
