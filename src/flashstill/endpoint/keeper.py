"""Keeps a serving engine: starts it, and ends it with all its processes when asked to or when the parent is gone.

Run as `python -m flashstill.endpoint.keeper JOB`, JOB a JSON object: words, folder (working directory), log, grace_s,
python_path (the engine's PYTHONPATH, or null; all other variables are the keeper's own).  The first line on standard
output is the engine's process id, or "-" and why it could not be started.

    parent --pipe on standard input--> keeper --PR_SET_PDEATHSIG--> engine, in a session of its own

The pipe hangs up when the parent ends, however it ends, also by SIGKILL.  If the keeper itself is killed, Linux kills
the engine.  The keeper adopts what the engine leaves behind (PR_SET_CHILD_SUBREAPER), so that nothing outlives it, and
removes the folder at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
from typing import NoReturn

from flashstill.distill.isolated.child import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, children, prctl, wake_ups

POLL_MS = 50
CANNOT_START = 127


def main() -> None:
    """Start the engine, report its process id, and wait for its end, the parent's end or SIGTERM."""
    job = json.loads(sys.argv[1])
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    woken = wake_ups()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keeper = os.getpid()
    reading, writing = os.pipe()  # closed by exec; carries the reason where it fails
    engine = os.fork()
    if not engine:
        _become(job, keeper, writing, woken)
    os.close(writing)
    reason = os.read(reading, 500).decode(errors="replace")
    os.close(reading)
    print(f"- {reason}" if reason else engine, flush=True)
    if reason:
        os.waitpid(engine, 0)
        sys.exit(CANNOT_START)
    _keep(engine, woken, float(job["grace_s"]), str(job["folder"]))


def _become(job: dict[str, object], keeper: int, writing: int, woken: tuple[int, int]) -> NoReturn:
    """The engine's side of the fork: never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for end in woken:
            os.close(end)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open(str(job["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.chdir(str(job["folder"]))
        words, environment = job["words"], dict(os.environ)
        assert isinstance(words, list)
        environment.pop("PYTHONPATH", None)
        environment |= {} if job["python_path"] is None else {"PYTHONPATH": str(job["python_path"])}
        os.execvpe(words[0], words, environment)
    except BaseException as error:
        os.write(writing, f"{getattr(error, 'strerror', None) or error}".encode()[:500])
    os._exit(CANNOT_START)


def _keep(engine: int, woken: tuple[int, int], grace_s: float, folder: str) -> NoReturn:
    """Exits with the engine's status, or 128 + its signal, once the engine and all it started are gone."""
    waiting = select.poll()
    waiting.register(0, 0)  # for hang-up only, never read
    waiting.register(woken[0], select.POLLIN)
    code: int | None = None
    stopping_at = 0.0
    while code is None:
        for descriptor, _ in waiting.poll(POLL_MS if stopping_at else None):
            is_asked = descriptor == 0 or signal.SIGTERM in os.read(woken[0], 64)
            if is_asked and not stopping_at:
                waiting.unregister(0)
                stopping_at = time.monotonic()
                _signal(engine, signal.SIGTERM)
        if stopping_at and time.monotonic() - stopping_at > grace_s:
            _signal(engine, signal.SIGKILL)
        code = _reaped(engine)
    _signal(engine, signal.SIGKILL)
    while left := children():
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)


def _signal(engine: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(engine, number)


def _reaped(engine: int) -> int | None:
    """The engine's exit code if it has ended; other children that have ended are reaped as well."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == engine:
                status = os.waitstatus_to_exitcode(ended[1])
                code = status if status >= 0 else 128 - status
    return code


if __name__ == "__main__":
    main()
