"""Compile the inner loop with Numba where it is installed; without it the same functions run as plain Python.

Numba keeps compiled code on disk and compiles a function anew when its own file has changed, but not when a function
that is compiled into it has.  Old code that meets new arrays may write beyond their end, so that what is on disk is
only used for the very sources of this package that it was made from.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from flashstill.errors import DiskTrouble
from flashstill.files import write_text

F = TypeVar("F", bound=Callable[..., Any])

try:
    from numba import __version__, config, njit
    from numba.core import event
except ModuleNotFoundError:
    __version__, config, njit, event = "", None, None, None

KNOWN_INSIDE = __version__.startswith("0.68.")
"""whether parts.py knows the inside of this Numba; another compiles the same in its own way, in thrice the time"""

if KNOWN_INSIDE:
    from flashstill.simulate import parts

COMMON: dict[str, Any] = {"cache": True, "nogil": True, "no_cfunc_wrapper": True}


def compiled(function: F) -> F:
    """The function as a part of one that is compiled by Numba (`entry`), cached on disk; or itself.

    It must not make arrays (`with_arrays`): references to those that it gets are not counted, which took half of the
    event loop's time, as each count is an atomic operation.  Whoever calls it holds its arrays until it returns.
    """
    return function if njit is None else _part(function, _nrt=False)


def inlined(function: F) -> F:
    """The same, and compiled into each function that calls it.

    A call hands every array of a `Fleet` or `Settings` on as half a dozen numbers, some 250 in all, which takes longer
    than what a short function does.  For those called from one place: the event loop with all of them inside took more
    than five minutes to compile.
    """
    return function if njit is None else _part(function, _nrt=False, forceinline=True)


def with_arrays(function: F) -> F:
    """The same for a function that makes arrays. It returns none to one that is only `compiled`: nobody frees it."""
    return function if njit is None else _part(function, _nrt=True)


def entry(function: F) -> F:
    """A function that Python calls, compiled and cached on disk, so that threads run it side by side; or itself."""
    return function if njit is None else _called(function, _nrt=False)


def _part(function: F, **options: Any) -> Any:
    """A function that others have compiled into them (parts.py), without what Python would need to call it, which
    unpacks some sixty arrays and took two fifths of the time to compile.

    Where Python calls it all the same, it is compiled once more as an `entry`.
    """
    if not KNOWN_INSIDE:
        return njit(**COMMON, **options)(function)
    alone = {**COMMON, "cache": False, "no_cpython_wrapper": True, "pipeline_class": parts.Part}
    part: Any = njit(**alone, **options)(function)
    if not config.DISABLE_JIT:
        own = _called(function, **options)
        part.add_overload = lambda result: part.overloads.__setitem__(tuple(result.signature.args), result)
        part._compile_for_args = lambda *_, **__: own
    return part


def _called(function: F, **options: Any) -> Any:
    if not options["_nrt"] and KNOWN_INSIDE:
        options["pipeline_class"] = parts.Whole
    dispatcher: Any = njit(**COMMON, **options)(function)
    if config.DISABLE_JIT:  # it is the plain function then, and nothing is kept
        return dispatcher
    discard_stale(Path(dispatcher.stats.cache_path), sources())
    add, compiling = dispatcher.add_overload, dispatcher.compile

    def add_overload(result: Any) -> None:
        if KNOWN_INSIDE:
            parts.set_environments(result)
        add(result)

    def compile_without_collecting(arguments: Any) -> Any:
        """Python's search for circles of garbage takes a tenth of the time, as nearly all objects live on."""
        collects = gc.isenabled()
        gc.disable()
        try:
            return compiling(arguments)
        finally:
            if collects:
                gc.enable()

    dispatcher.add_overload, dispatcher.compile = add_overload, compile_without_collecting
    return dispatcher


@cache
def sources() -> str:
    """A digest of all modules of this package, which is what compiled code was made from."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def discard_stale(folder: Path, made_from: str) -> None:
    """Remove Numba's files in a folder that were made from other sources, or from unknown ones."""
    stamp = folder / "flashstill-sources.txt"
    with suppress(OSError, UnicodeDecodeError):
        if stamp.read_text(encoding="ascii") == made_from:
            return
    for path in [*folder.glob("*.nbi"), *folder.glob("*.nbc")]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DiskTrouble(f"{path} was compiled from other sources and cannot be removed: {error}") from error
    with suppress(OSError, DiskTrouble):  # without a stamp they are removed again next time
        folder.mkdir(parents=True, exist_ok=True)
        write_text(stamp, made_from)


IS_COMPILED = njit is not None
RUNS_IN_THREADS = IS_COMPILED and not config.DISABLE_JIT
"""whether threads share the work of several runs"""
COMPILING = "compiling the event loop once on this machine, about a minute"
COMPILING_PARTS = "compiling once on this machine what failures and scaling do, up to half a minute"
PARTS_OF_CHANGES = ("slots", "central")
"""modules of functions that Python calls where replicas fail or come, each a second or more to compile"""


@contextmanager
def telling(tell: Callable[[str], object]) -> Iterator[None]:
    """Within it, `tell` hears when the event loop (loop.py) is compiled, or parts of it that Python calls, each once,
    and not when they come from the cache."""
    if event is None:
        yield
        return

    class Listener(event.Listener):  # type: ignore[misc]
        def __init__(self) -> None:
            self.loops, self.has_told = 0, False

        def on_start(self, begun: Any) -> None:
            function = begun.data["dispatcher"].py_func
            if function.__name__ == "advance":
                self.loops += 1
                tell(COMPILING)
            elif not self.loops and not self.has_told and str(function.__module__).endswith(PARTS_OF_CHANGES):
                self.has_told = True
                tell(COMPILING_PARTS)

        def on_end(self, ended: Any) -> None:
            self.loops -= ended.data["dispatcher"].py_func.__name__ == "advance"

    with event.install_listener("numba:compile", Listener()):
        yield
