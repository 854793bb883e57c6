"""The child side of isolated/__init__.py, run as a file by `python -I`; it imports only the standard library.

It forks into two processes, a keeper and a worker.  The worker sets its own resource limits and runs the module; on
Linux it is killed if the keeper dies.  The keeper adopts orphaned descendants of the worker (subreaper) and kills them
all when the worker ends, on SIGTERM, or when the parent has gone and standard input closes.  (PR_SET_PDEATHSIG will not
do for the keeper: it fires when the *thread* that started a process ends, which can be too early.)
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import resource
import runpy
import select
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

PACKAGE = Path(__file__).parents[2]
FILE_BYTES, OPEN_FILES, PROCESSES = 64 * 2**20, 256, 128
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    """Fork into keeper and worker; the worker sets its resource limits and runs the module."""
    job = json.loads(sys.argv[1])
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    woken = wake_ups()
    keeper = os.getpid()
    worker = os.fork()
    if worker:
        keep(worker, woken, job["folder"])
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    for end in woken:
        os.close(end)
    os.setpgid(0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(1)
    limit(job["memory_bytes"])
    run(job["module"], job["path"], sys.argv[2:])


def prctl(option: int, value: int) -> None:
    """Call prctl(2) on Linux; do nothing on other systems."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def wake_ups() -> tuple[int, int]:
    """A pipe (read end, write end) that becomes readable on SIGCHLD (the worker ended) or SIGTERM."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reading, writing


def keep(worker: int, woken: tuple[int, int], folder: str) -> NoReturn:
    """Wait until the worker ends, the parent ends or SIGTERM arrives; then kill all descendants and remove `folder`.

    Exits with status 0 if the worker did, else 1.
    """
    questions = os.dup(0)  # polled for hang-up only, never read
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):  # otherwise the parent would not see when the worker closes them
        os.dup2(nothing, stream)
    waiting = select.poll()
    waiting.register(questions, 0)
    waiting.register(woken[0], select.POLLIN)
    code, done = 1, False
    while not done:
        for descriptor, _ in waiting.poll():
            done = done or descriptor == questions or signal.SIGTERM in os.read(woken[0], 64)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == worker:
                    done, code = True, 0 if ended[1] == 0 else 1
    with contextlib.suppress(OSError):
        os.killpg(worker, signal.SIGKILL)  # the whole group at once: a fork bomb cannot outrun it
    while left := children():  # processes that left the group; once orphaned, they are our children
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)


def children() -> list[int]:
    """Process ids of this process's children, including zombies; empty if /proc does not list them."""
    try:
        return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]
    except OSError:
        return []


def limit(memory_bytes: int) -> None:
    """Set the resource limits of the worker, which its child processes inherit."""
    lower(resource.RLIMIT_AS, memory_bytes)
    lower(resource.RLIMIT_FSIZE, FILE_BYTES)
    lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    lower(resource.RLIMIT_CORE, 0)
    if running := tasks():
        lower(resource.RLIMIT_NPROC, running + PROCESSES)


def tasks() -> int:
    """Number of threads of this user, which RLIMIT_NPROC counts; 0 if there is no /proc."""
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if place.stat().st_uid == os.getuid():
                total += len(list((place / "task").iterdir()))
    return total


def lower(which: int, most: int) -> None:
    """Lower the soft and hard limit of a resource to `most`; never raises a limit."""
    soft, hard = resource.getrlimit(which)
    limits = [most, *(given for given in (soft, hard) if given != resource.RLIM_INFINITY)]
    resource.setrlimit(which, (min(limits), min(limits)))


def run(module: str, path: list[str], arguments: list[str]) -> None:
    """Run the module as a main program; flashstill is imported from this file's location, not from the path."""
    sys.path += [entry for entry in path if entry not in sys.path]
    described = importlib.util.spec_from_file_location(
        PACKAGE.name, PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
    )
    assert described is not None
    assert described.loader is not None
    package = importlib.util.module_from_spec(described)
    sys.modules[PACKAGE.name] = package
    described.loader.exec_module(package)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
