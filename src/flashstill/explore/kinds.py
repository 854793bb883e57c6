"""The views of the page, in its order: what each listens to, and the function that makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flashstill.explore.commands import Given
from flashstill.explore.engine import Engine
from flashstill.explore.state import State
from flashstill.explore.view import View
from flashstill.facts import Facts

Build = Callable[[Engine, Facts, State], View]
"""the view of a state; `facts` are the engine's with the state's edits"""
Command = Callable[[Given, State], str]
"""the command lines that print the numbers of a state"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A view: its name in addresses, title, the controls that it listens to, and what makes it and its command."""

    name: str
    title: str
    controls: tuple[str, ...]
    build: Build
    command: Command
