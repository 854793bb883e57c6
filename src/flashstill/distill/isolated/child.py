"""The other side of isolated/__init__.py: run as a file by `python -I`, it imports nothing but the standard library.

It becomes two processes.  The keeper waits, adopts whatever the worker leaves behind, and ends all of it when the
worker ends, when it is told to (SIGTERM), or when its parent is gone and its standard input closes with it.  (The
system's own signal at a parent's death comes at the end of the *thread* that started a process: too early here.)
The worker takes its limits upon itself and runs the module; on Linux it dies with its keeper.
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
    """Fork into keeper and worker; the worker takes its limits and runs the module."""
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
    """Call prctl(2), on Linux; elsewhere do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def wake_ups() -> tuple[int, int]:
    """A pipe that a signal writes to: a worker's end or the order to end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reading, writing


def keep(worker: int, woken: tuple[int, int], folder: str) -> NoReturn:
    """Wait for the worker's end, the parent's, or the order; then end everything, and remove its directory."""
    questions = os.dup(0)  # polled for hang-up only, never read
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):  # or nobody would notice that the worker has closed them
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
    while left := children():  # what left the group; where its parent is gone it is a child of ours
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)


def children() -> list[int]:
    """Process ids of the children of this process, dead ones included; none where /proc does not list them."""
    try:
        return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]
    except OSError:
        return []


def limit(memory_bytes: int) -> None:
    """What the worker and each process that it starts may use."""
    lower(resource.RLIMIT_AS, memory_bytes)
    lower(resource.RLIMIT_FSIZE, FILE_BYTES)
    lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    lower(resource.RLIMIT_CORE, 0)
    if running := tasks():
        lower(resource.RLIMIT_NPROC, running + PROCESSES)


def tasks() -> int:
    """Threads of this user, which is what the system counts; 0 where it does not tell."""
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if place.stat().st_uid == os.getuid():
                total += len(list((place / "task").iterdir()))
    return total


def lower(which: int, most: int) -> None:
    """Lower a resource limit to `most`; one that is lower already stays."""
    soft, hard = resource.getrlimit(which)
    limits = [most, *(given for given in (soft, hard) if given != resource.RLIM_INFINITY)]
    resource.setrlimit(which, (min(limits), min(limits)))


def run(module: str, path: list[str], arguments: list[str]) -> None:
    """The module as a main program; the package comes from where this file lies, whatever the path holds."""
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
