"""A served model: start an engine, wait until it answers, stop it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flashstill.endpoint.folder import checked_model, linked, served_name
from flashstill.endpoint.health import EngineFailed, check_port, failed, root_of, wait_until_healthy
from flashstill.endpoint.process import Process, start
from flashstill.endpoint.programs import check_name, program
from flashstill.endpoint.settings import Settings, settings_of
from flashstill.errors import BadInput
from flashstill.files import home_directory
from flashstill.progress import Progress

LOGS = "logs"
__all__ = ["EngineFailed", "Request", "Server", "serving"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to serve and how; fields as in `flashstill.serve`."""

    directory: Path
    engine: str = "transformers"
    engine_python: Path | None = None
    plan: Path | None = None
    sequences: int | None = None
    length: int | None = None
    arithmetic: str = "auto"
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    log: Path | None = None
    wait_s: float = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A server that answers. url: base of an OpenAI-compatible API; model: how requests call the model.

    ready_s: seconds from the start until it answered; notes: settings that are defaults.
    """

    url: str
    model: str
    engine: str
    command: tuple[str, ...]
    settings: Settings
    log: Path
    ready_s: float
    notes: tuple[str, ...]
    process: Process

    def wait(self, seconds: float | None = None) -> int | None:
        """The engine's exit status, waited for; None if it still runs after `seconds`."""
        return self.process.wait(seconds)

    def ended(self) -> EngineFailed:
        """The error of an engine that ended by itself."""
        return failed(self.process, self.engine, f"ended with status {self.process.status}")

    def as_dict(self) -> dict[str, Any]:
        """The document that `serve --json` prints."""
        settings = {name: value for name, value in asdict(self.settings).items() if name != "notes"}
        return {
            "url": self.url, "model": self.model, "engine": self.engine, "pid": self.process.pid,
            "log": str(self.log), "ready_s": self.ready_s, "command": list(self.command), "settings": settings,
            "notes": list(self.notes),
        }  # fmt: skip


@contextmanager
def serving(asked: Request, progress: Progress) -> Iterator[Server]:
    """A healthy server, stopped with all its processes at the end, however that comes."""
    engine = check_name(asked.engine)
    if not 0.0 < asked.wait_s < float("inf"):
        raise BadInput(f"wait is {asked.wait_s} s, not a time above 0")
    name = served_name(asked.directory, asked.name)
    config = checked_model(asked.directory)
    settings = settings_of(asked.directory, config, engine, asked.plan, asked.sequences, asked.length, asked.arithmetic)
    port = check_port(asked.host, asked.port)
    log = asked.log or home_directory() / LOGS / f"{engine}-{port}.log"
    with linked(asked.directory, config, name) as work:
        command = program(engine, asked.engine_python, settings, name, asked.host, port, work)
        process = start(command.words, command.environment, work, log)
        try:
            root = root_of(asked.host, port)
            with progress.task(f"start {engine}, at the most", asked.wait_s, "s") as advance:
                ready_s = wait_until_healthy(process, engine, root, name, asked.wait_s, advance)
            yield Server(
                url=f"{root}/v1", model=name, engine=engine, command=command.words, settings=settings, log=log,
                ready_s=ready_s, notes=settings.notes, process=process,
            )  # fmt: skip
        finally:
            process.stop()
