"""Starting the page: the server of an engine, until Ctrl-C."""

from __future__ import annotations

import secrets
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from flashstill.arch import load_architecture
from flashstill.arch.catalogue import known_models
from flashstill.errors import BadInput, FlashstillError
from flashstill.explore.answers import Answers
from flashstill.explore.catalogue import CHIP, MODEL, Catalogue
from flashstill.explore.commands import Given
from flashstill.explore.engine import Engine
from flashstill.explore.server import HOST, ExploreServer
from flashstill.explore.view import View
from flashstill.explore.views import kinds_of
from flashstill.facts import load

MOST_PORT = 65535


def answers_of(
    *,
    model: str | None = None,
    chip: str | None = None,
    directories: Sequence[Path] = (),
    edits: Sequence[str] = (),
    result: Path | None = None,
) -> Answers:
    """What a page answers that starts with a model and a chip; BadInput or MissingFact for what cannot be.

    model: a known name, or the path of a config.json or a model directory.  result: the directory of a finished
    run, or a saved JSON answer.
    """
    facts = load(directories, edits)
    kinds = kinds_of(() if result is None else _views_of(result))
    name = MODEL if model is None else model
    own = None
    if name not in known_models():
        own = load_architecture(name)
    catalogue = Catalogue(
        facts=facts,
        views=tuple(kind.name for kind in kinds),
        model=name,
        chip=facts.machine(CHIP if chip is None else chip).name,
        own_model=own,
    )
    given = Given(directories=tuple(str(each) for each in directories), edits=tuple(edits))
    engine = Engine(facts=facts, catalogue=catalogue, given=given)
    return Answers(engine, kinds)


def _views_of(result: Path) -> tuple[View, ...]:
    from flashstill.explore.results import result_views  # it takes as long to import as all the rest

    return result_views(result)


def listening(answers: Answers, port: int) -> ExploreServer:
    """A server with a fresh token; BadInput where the port cannot be taken. port 0: any that is free."""
    if not 0 <= port <= MOST_PORT:
        raise BadInput(f"port must lie between 0 and {MOST_PORT:,}, not {port:,}")
    try:
        return ExploreServer(answers, secrets.token_urlsafe(32), port)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BadInput(
            f"port {port} of {HOST} cannot be taken ({reason}); name another, or leave --port out"
        ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page that is being served."""

    server: ExploreServer
    opens_browser: bool

    @property
    def port(self) -> int:
        """Port on 127.0.0.1."""
        return self.server.port

    def address(self) -> str:
        """What a browser opens, token included."""
        return self.server.address()

    def answer(self) -> None:
        """Answer requests until KeyboardInterrupt; a browser is opened first where that is wanted and can be."""
        Thread(target=_warm, args=(self.server.answers,), daemon=True).start()
        if self.opens_browser:
            Thread(target=_open, args=(self.address(),), daemon=True).start()
        self.server.serve_forever(poll_interval=0.2)


@contextmanager
def serving(answers: Answers, port: int, *, opens_browser: bool) -> Iterator[Page]:
    """A page whose port is taken, and given back at the end; BadInput where it cannot be taken."""
    with listening(answers, port) as server:
        yield Page(server=server, opens_browser=opens_browser)


def _warm(answers: Answers) -> None:
    """Compute the first view while the browser starts; what is wrong with it is said when it is asked for."""
    with suppress(FlashstillError):
        answers.view(answers.state(""))


def _open(address: str) -> None:
    """A browser that cannot be opened, or would draw into the terminal, leaves the printed address."""
    with suppress(webbrowser.Error):
        browser = webbrowser.get()
        if type(browser) is not webbrowser.GenericBrowser:  # lynx, w3m and the like run in the terminal
            browser.open(address)
