"""A fault put into functions that exist already, so that neither the package nor the tests are imported anew.

Only the code of functions can be exchanged; what runs at import (constants, defaults of fields and arguments) cannot.
"""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType

from tests.mutation.places import ROOT, Fault

Place = tuple[str, int]
"""qualified name and first line"""


def swap(fault: Fault) -> bool:
    """Put the fault in; False, and nothing is changed, where it runs at import."""
    path = str(ROOT / fault.file)
    original = compile((ROOT / fault.file).read_text(encoding="utf-8"), path, "exec", dont_inherit=True)
    changed = dict(_changed(original, compile(fault.source, path, "exec", dont_inherit=True)))
    if not changed or not all(code.co_flags & inspect.CO_OPTIMIZED for code in changed.values()):
        return False
    gc.unfreeze()  # the tests leave out of sight what their collection made
    objects = gc.get_objects()
    for thing in objects:
        if type(thing) is FunctionType and thing.__code__.co_filename == path:
            code = changed.get((thing.__code__.co_qualname, thing.__code__.co_firstlineno))
            thing.__code__ = code or thing.__code__
    for thing in objects:
        if type(thing) is functools._lru_cache_wrapper:
            thing.cache_clear()
    return True


def _changed(old: CodeType, new: CodeType) -> Iterator[tuple[Place, CodeType]]:
    """The outermost code objects that differ, but for the module and classes, of which the inner ones are named."""
    if old == new:
        return
    inner, other = _inner(old), _inner(new)
    if _own(old) != _own(new) or old.co_flags & inspect.CO_OPTIMIZED or len(inner) != len(other):
        yield (old.co_qualname, old.co_firstlineno), new
        return
    for first, second in zip(inner, other, strict=True):
        yield from _changed(first, second)


def _inner(code: CodeType) -> list[CodeType]:
    return [value for value in code.co_consts if isinstance(value, CodeType)]


def _own(code: CodeType) -> tuple[object, ...]:
    """What it does itself, wherever it stands and whatever the code within it does."""
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    constants = [repr(value) for value in code.co_consts if not isinstance(value, CodeType)]
    return code.co_code, names, constants, code.co_flags, code.co_argcount, code.co_kwonlyargcount
