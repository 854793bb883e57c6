"""Compile the inner loop with Numba where it is installed; without it the same functions run as plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

try:
    from numba import config, njit
    from numba.core import event
except ModuleNotFoundError:
    config = njit = event = None


def compiled(function: F) -> F:
    """The function compiled by Numba and cached on disk, so that threads run it side by side; or itself.

    It must not make arrays (`with_arrays`): references to those that it gets are not counted, which took half of the
    event loop's time, as each count is an atomic operation.  Whoever calls it holds its arrays until it returns.
    """
    return function if njit is None else njit(cache=True, nogil=True, _nrt=False)(function)


def with_arrays(function: F) -> F:
    """The same for a function that makes arrays. It returns none to one that is only `compiled`: nobody frees it."""
    return function if njit is None else njit(cache=True, nogil=True, _nrt=True)(function)


IS_COMPILED = njit is not None
RUNS_IN_THREADS = IS_COMPILED and not config.DISABLE_JIT
"""whether threads share the work of several runs"""
COMPILING = "compiling the event loop once on this machine, about two minutes"


@contextmanager
def telling(tell: Callable[[str], object]) -> Iterator[None]:
    """Within it, `tell` hears when the event loop (loop.py) is compiled, and not when it comes from the cache."""
    if event is None:
        yield
        return

    class Listener(event.Listener):  # type: ignore[misc]
        def on_start(self, begun: Any) -> None:
            if begun.data["dispatcher"].py_func.__name__ == "advance":
                tell(COMPILING)

        def on_end(self, ended: Any) -> None:
            """Nothing to tell."""

    with event.install_listener("numba:compile", Listener()):
        yield
