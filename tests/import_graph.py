"""Which module of a package imports which, read from the files without running them; and the circles among them.

An import counts wherever it stands, at the top or in a function; one for type checkers alone counts where it is asked
for.  Importing `a.b.c` also runs `a` and `a.b`, so that a module imports the packages above what it names, other than
those that it lies in itself.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

Graph = Mapping[str, frozenset[str]]


def modules(package: Path) -> dict[str, Path]:
    """The files of a package by module name; an `__init__.py` goes by the name of its folder."""
    files = {}
    for file in sorted(package.rglob("*.py")):
        parts = (package.name, *file.relative_to(package).with_suffix("").parts)
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return files


def import_graph(package: Path, for_types: bool = True) -> dict[str, frozenset[str]]:
    """The modules of the package that each of its modules imports.

    The package's own `__init__` is left out: it is the face, which looks at everything, and what lies below asks it for
    nothing but the version.
    """
    files = modules(package)
    known = set(files) - {package.name}
    return {name: frozenset(_imported(name, files[name], known, for_types)) for name in sorted(known)}


def _imported(module: str, file: Path, known: set[str], for_types: bool) -> Iterator[str]:
    inside = {module, *_packages_above(module)}
    for origin, name in named_imports(file, for_types):
        target = f"{origin}.{name}" if f"{origin}.{name}" in known else origin
        if target in known and target != module:
            yield target
        yield from (above for above in _packages_above(target) if above in known and above not in inside)


def named_imports(file: Path, for_types: bool = True) -> list[tuple[str, str]]:
    """(module, name) of every import of a file; name is empty for `import module`."""
    found = _named(file.read_text(encoding="utf-8"))
    return [(module, name) for module, name, only_for_types in found if for_types or not only_for_types]


@functools.cache
def _named(source: str) -> list[tuple[str, str, bool]]:
    """The same, and whether it is for type checkers alone."""
    tree, found = ast.parse(source), []
    typed = {id(node) for node in _statements(_type_checking(tree))}
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            found += [(alias.name, "", id(node) in typed) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"write absolute imports, not one of level {node.level}"
            assert node.module is not None
            found += [(node.module, alias.name, id(node) in typed) for alias in node.names]
    return found


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Statements and all that are nested in them; an import is one, so that expressions are not looked at."""
    for node in body:
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, name, None)
            if isinstance(inner, list):
                yield from _statements(inner)


def _type_checking(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from node.body


def _packages_above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def folders(graph: Graph, folder: str) -> dict[str, frozenset[str]]:
    """The graph between what lies directly in a folder: modules, and packages taken as a whole."""

    def inside(name: str) -> str | None:
        below = name.removeprefix(folder + ".")
        return f"{folder}.{below.split('.')[0]}" if below != name else None

    edges: dict[str, set[str]] = {}
    for name, imported in graph.items():
        if (here := inside(name)) is not None:
            edges.setdefault(here, set()).update(
                there for other in imported if (there := inside(other)) not in (None, here)
            )
    return {name: frozenset(imported) for name, imported in edges.items()}


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that reach each other (strongly connected components of more than one node; Tarjan 1972)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], index[other])
        if lowest[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)


def reached(graph: Graph, start: str) -> set[str]:
    """All modules that are imported, directly or by others, where `start` is."""
    seen, waiting = {start}, [start]
    while waiting:
        for other in graph.get(waiting.pop(), ()):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen
