"""Calls of public functions: an unknown keyword, a missing one and a value of another kind are one sentence each."""

from __future__ import annotations

import functools
import numbers
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from flashstill.errors import BadInput, FlashstillError, nearest, shortened, shown, unknown

P = ParamSpec("P")
R = TypeVar("R")


def refuses_other_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a public function: a call that does not fit it raises BadInput, with the nearest keyword.

    So does a value of another kind than its annotation, where that is text, numbers, paths, or several of these.
    """
    kinds = function.__annotations__

    @functools.wraps(function)
    def called(*values: P.args, **named: P.kwargs) -> R:
        for name, value in named.items():
            check_kind(name, value, kinds.get(name, "Any"))
        try:
            return function(*values, **named)
        except TypeError:
            why = _misfit(function, values, named)
            if why is None:
                raise
            raise BadInput(why) from None  # where in our code the call did not fit is of no use
        except FlashstillError as error:
            if not _OF_A_COMMAND.get() and error.args and isinstance(error.args[0], str):
                error.args = (by_keywords(error.args[0], kinds), *error.args[1:])
            raise

    return called


_OF_A_COMMAND: ContextVar[bool] = ContextVar("of_a_command", default=False)
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])(?![\w-])")


@contextmanager
def commanded() -> Iterator[None]:
    """While a command runs: messages speak of its options, as --max-chips, and not of keywords, as max_chips."""
    token = _OF_A_COMMAND.set(True)
    try:
        yield
    finally:
        _OF_A_COMMAND.reset(token)


def by_keywords(message: str, keywords: Iterable[str]) -> str:
    """A message with those options that are keywords of a function spelled as these; options of others stay."""
    names = list(keywords)
    known = {name.removesuffix("_s"): name for name in names} | {name: name for name in names}
    return _OPTION.sub(lambda option: known.get(option[1].replace("-", "_"), option[0]), message)


_PLAIN = {
    "str": (str, "a text"), "Path": (os.PathLike, "a path"), "bool": (bool, "True or False"),
    "int": (numbers.Real, "a whole number"), "float": (numbers.Real, "a number"), "None": (type(None), ""),
}  # fmt: skip
"""kinds of values by their names in annotations, and what they are called; whole numbers may come as floats"""
MOST_DIGITS = 300
"""of a whole number; beyond it does not fit a float"""


def plain_value(value: Any) -> Any:
    """A single number of NumPy as one of Python, whole floats stay floats; other values as they are."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def check_kind(name: str, value: object, kind: str) -> None:
    """BadInput for a value of none of the kinds of an annotation; other kinds than those of `_PLAIN` are not judged."""
    value = plain_value(value)
    parts, words = _read(kind)
    if None in words or any(_is(value, part) for part in parts):
        return
    if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS and {"int", "float"} & set(parts):
        raise BadInput(f"{name} is {shown(value)}, and no number here has more than {MOST_DIGITS}")
    if (entry := _wrong_entry(value, parts)) is not None:
        place, one, inside = entry
        check_kind(f"{name}[{place}]", one, inside)
    raise BadInput(f"{name} is {shown(value)}, not {' or '.join(word for word in words if word)}")


@functools.lru_cache(maxsize=1024)
def _read(kind: str) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """The parts of an annotation, and what they are called."""
    parts = tuple(_UNION.split(kind))
    return parts, tuple(word for part in parts for word in [_word(part)] if word != "")


def _wrong_entry(value: object, parts: Sequence[str]) -> tuple[int, object, str] | None:
    """Place, value and kinds of the first entry of a sequence that is of none of these kinds; None if there is none."""
    sequences = [part for part in parts if part.startswith(_SEVERAL)]
    is_list = isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1
    if not sequences or not is_list or isinstance(value, str | bytes):
        return None
    entries: Any = value
    kinds = _inside(sequences[0])
    wrong = (place for place, one in enumerate(entries) if not _is_entry(one, kinds))
    place = next(wrong, None)
    return None if place is None else (place, entries[place], " | ".join(kinds))


def _is_entry(value: object, kinds: list[str]) -> bool:
    """Whether an entry of a sequence is of one of these kinds, as if it were given by itself."""
    plain = plain_value(value)
    return any(_is(plain, each) for each in kinds)


_UNION = re.compile(r" \| (?![^\[]*\])")
_SEVERAL = ("Sequence[", "Iterable[")


def _inside(part: str) -> list[str]:
    """The kinds of the entries of a sequence."""
    return part[part.index("[") + 1 : -1].split(" | ")


def _word(part: str) -> str | None:
    """What a kind is called, "" for None, and None for one that is not judged."""
    if part.startswith(_SEVERAL):
        known = all(each in _PLAIN for each in _inside(part))
        return "a list" if known else None
    return "a function" if part.startswith("Callable[") else _PLAIN[part][1] if part in _PLAIN else None


def _is(value: object, part: str) -> bool:
    if part.startswith("Callable["):
        return callable(value)
    if part.startswith(_SEVERAL):
        if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
            return False
        return isinstance(value, Iterator) or all(_is_entry(one, _inside(part)) for one in value)
    if not isinstance(value, _PLAIN[part][0]) or (isinstance(value, bool) and part != "bool"):
        return False
    if part not in ("int", "float"):
        return True
    number: Any = value
    if isinstance(number, int):
        return bool(abs(number) < 10**MOST_DIGITS)
    return part == "float" or bool(float(number).is_integer())


def _misfit(function: Callable[..., Any], values: tuple[Any, ...], named: Mapping[str, Any]) -> str | None:
    """Why values and keywords do not fit the signature of a function, None if they do."""
    import inspect  # imported here: takes 10 ms, for a mistake alone

    signature, name = inspect.signature(function), function.__name__
    try:
        signature.bind(*values, **named)
    except TypeError as error:
        why = str(error)
    else:
        return None
    parameters = signature.parameters.values()
    known = [each.name for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    takes_more = any(each.kind is each.VAR_KEYWORD for each in parameters)
    others = [each for each in named if each not in known]
    if others and not takes_more:
        return unknown(f"keyword of {name}", others[0], known)
    needed = [each.name for each in parameters if each.default is each.empty and each.name in known]
    missing = [each for each in needed[len(values) :] if each not in named]
    if not missing:
        return f"{name}: {why}"
    meant = nearest(missing[0], others)[:1] if others and _alike(missing[0], others) else []
    hint = f"; is {shortened(meant[0])!r} meant to be that?" if meant else ""
    return f"{name} needs {' and '.join(missing)}{hint}"


def _alike(name: str, others: Iterable[str]) -> bool:
    import difflib

    return bool(difflib.get_close_matches(name, list(others), cutoff=0.6))
