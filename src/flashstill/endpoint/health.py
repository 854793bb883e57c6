"""When a server is healthy: it says so, and it answers a request of one token.

An engine that has loaded a model may still fail at its first request, where transformers allocates its cache and vLLM
compiles; only after an answer is the server of use to anybody.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from flashstill.endpoint.process import Process
from flashstill.errors import BadInput, one_line

PAUSE_S, ASK_S = 0.1, 2.0
MOST_BYTES = 2**20
_TROUBLE = (OSError, http.client.HTTPException, ValueError)
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class EngineFailed(BadInput):
    """The engine ended, or did not become healthy in time. lines: the last ones of its log."""

    def __init__(self, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.lines = lines


def wait_until_healthy(
    process: Process, engine: str, root: str, model: str, seconds: float, waited: Callable[[float], None]
) -> float:
    """Seconds until the server answered; EngineFailed if it ended first or did not within `seconds`.

    root: http://host:port of the server; waited: called with the seconds since the last call, to show progress.
    """
    begun = last = time.monotonic()
    is_up, trouble = False, "no answer"
    while (passed := time.monotonic() - begun) < seconds:
        if process.status is not None:
            raise failed(process, engine, f"ended with status {process.status} before it was healthy")
        try:
            if not is_up:
                _ask(f"{root}/health", None, min(ASK_S, seconds))
                is_up = True
            question = {"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0.0}
            answer = _ask(f"{root}/v1/completions", question, seconds - passed)
            if not (isinstance(answer, dict) and answer.get("choices")):
                raise ValueError(f"its answer to a request is {one_line(answer, 80)}")
        except urllib.error.HTTPError as error:
            trouble = f"status {error.code}: {one_line(_body(error), 120)}"
            if is_up and 400 <= error.code < 500:
                raise failed(process, engine, f"refused a request of one token ({trouble})") from error
        except _TROUBLE as error:
            trouble = one_line(error) or type(error).__name__
        else:
            if process.status is None:  # else another server answers on this port
                return time.monotonic() - begun
        now = time.monotonic()
        waited(now - last)
        last = now
        time.sleep(PAUSE_S)
    raise failed(process, engine, f"was not healthy after {seconds:g} s ({trouble})")


def failed(process: Process, engine: str, what: str) -> EngineFailed:
    """The error, with the last lines of the log."""
    lines = process.last_lines()
    last = f", its last line: {lines[-1]}" if lines else ""
    return EngineFailed(f"{engine} {what}{last}; all of its output is in {process.log}", lines)


def check_port(host: str, port: int) -> int:
    """The port, or a free one for 0; BadInput if it is in use or the host is not an address of this machine."""
    if not 0 <= port <= 65535:
        raise BadInput(f"port is {port}, not a number from 0 (a free one) to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            f"port {port} of {one_line(host, 80)} cannot be used ({why.lower()}); give another --port, or 0 for a free"
            " one"
        ) from error


def root_of(host: str, port: int) -> str:
    """http://host:port at which this machine reaches a server that listens on `host`."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://{f'[{near}]' if ':' in near else near}:{port}"


def _ask(url: str, question: dict[str, Any] | None, seconds: float) -> Any:
    """The parsed answer; None for one without a body."""
    data = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with _OPENER.open(request, timeout=max(seconds, PAUSE_S)) as response:
        body = response.read(MOST_BYTES)
    return json.loads(body) if data is not None else None


def _body(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(1000).decode(errors="replace")
    except _TROUBLE:
        return ""
