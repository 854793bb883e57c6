"""Run untrusted work in a sandboxed child process.

A module of this package runs in a separate Python process that

* is isolated (`python -I`): neither the working directory nor PYTHONPATH is on its import path; other entries of this
  process's sys.path come after the standard library and installed packages, so that they cannot shadow them;
* has an empty temporary directory as working directory, and almost no environment variables;
* has limits on memory, file size, open files and processes, and writes no core dumps;
* is killed when its parent ends, together with every process that it started (child.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MEMORY_BYTES = 3 * 2**30
"""default limit on address space: more than well-behaved work needs, less than a small machine has"""
LONGEST_ANSWER_BYTES = 2**20
KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
END_S, EXIT_S = 5.0, 30.0
PIPE_BYTES = 2**15
"""what a pipe takes for certain while nobody reads"""
_CHILD = Path(__file__).with_name("child.py")


class Flooded(Exception):
    """The process wrote more than allowed, or wrote output before it was asked for any."""


@dataclass(slots=True)
class Isolated:
    """A child process that communicates by lines on its standard streams.

    Failures: TimeoutError (too slow), EOFError (it ended early or with an error), Flooded (too much output).
    """

    process: subprocess.Popen[bytes]
    folder: Path

    def ask(self, question: bytes, seconds: float, most_bytes: int | None = None) -> bytes:
        """Send a line and return the answering line, within `seconds`; Flooded if the process writes more than one.

        most_bytes: limit on the answer, LONGEST_ANSWER_BYTES by default.
        """
        until = time.monotonic() + seconds
        if self._speaks():
            raise Flooded
        self._write(question + b"\n", until)
        return self._line(until, most_bytes)

    def ask_each(self, questions: Sequence[bytes], seconds: float) -> Iterator[bytes]:
        """Send several lines at once, and yield the answering line of each, within `seconds` of the one before.

        Fewer switches between the processes than `ask`.  The questions should not exceed PIPE_BYTES, or both sides may
        wait to write.  Flooded if the process writes more lines than it was sent.
        """
        if self._speaks():
            raise Flooded
        self._write(b"".join(question + b"\n" for question in questions), time.monotonic() + seconds)
        rest = b""
        for place in range(len(questions)):
            line, rest = self._line_after(rest, time.monotonic() + seconds, LONGEST_ANSWER_BYTES)
            if place + 1 == len(questions) and rest:
                raise Flooded
            yield line

    def line(self, seconds: float) -> bytes:
        """Read the next line without sending one, within `seconds`."""
        return self._line(time.monotonic() + seconds)

    def lines(self, pause_s: float, most_bytes: int) -> Iterator[bytes]:
        """Yield all lines until the process ends.

        pause_s: longest wait for more output, else TimeoutError; most_bytes: limit on all output, else Flooded.
        """
        rest, size = bytearray(), 0
        while part := self._read(time.monotonic() + pause_s):
            size += len(part)
            if size > most_bytes:
                raise Flooded
            rest += part
            if b"\n" in part:
                *whole, left = bytes(rest).split(b"\n")
                rest = bytearray(left)
                yield from whole
        self._end_well(EXIT_S)

    def everything(self, most_bytes: int, seconds: float) -> bytes:
        """All output until the process exits, within `seconds`; EOFError if its exit status is not 0."""
        until, parts, size = time.monotonic() + seconds, [], 0
        while part := self._read(until):
            parts.append(part)
            size += len(part)
            if size > most_bytes:
                raise Flooded
        self._end_well(max(0.1, until - time.monotonic()))
        return b"".join(parts)

    def _end_well(self, seconds: float) -> None:
        """Wait until the process has ended, which it may do some time after its last output."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        if status:
            raise EOFError

    def _write(self, data: bytes, until: float) -> None:
        assert self.process.stdin is not None
        descriptor = self.process.stdin.fileno()
        rest = memoryview(data)
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_WRITE)
            while rest:
                left = until - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise TimeoutError
                try:
                    rest = rest[os.write(descriptor, rest) :]
                except BrokenPipeError as error:
                    raise EOFError from error

    def _read(self, until: float) -> bytes:
        """Read up to 64 KiB, b"" at the end of the stream; TimeoutError at time.monotonic() == `until`."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            left = until - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise TimeoutError
            return os.read(descriptor, 65536)

    def _speaks(self) -> bool:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return bool(selector.select(0)) and self.process.poll() is None

    def _line(self, until: float, most_bytes: int | None = None) -> bytes:
        line, more = self._line_after(b"", until, most_bytes or LONGEST_ANSWER_BYTES)
        if more:
            raise Flooded
        return line

    def _line_after(self, begun: bytes, until: float, most_bytes: int) -> tuple[bytes, bytes]:
        """The line of which `begun` was read already, and what came behind it."""
        parts, size = [begun], len(begun)
        while b"\n" not in parts[-1]:
            part = self._read(until)
            if not part:
                raise EOFError
            parts.append(part)
            size += len(part)
            if size > most_bytes:
                raise Flooded
        line, _, more = b"".join(parts).partition(b"\n")
        return line, more

    def end(self) -> None:
        """End the process and all its descendants, and remove its directory."""
        self.process.terminate()  # child.py then kills all descendants
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # closing may fail if the process left data unread
                    stream.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def start(module: str, *arguments: str, memory_bytes: int = MEMORY_BYTES) -> Isolated:
    """Run `module` of flashstill as a main program with these arguments in a sandboxed process.

    memory_bytes: limit on its address space.
    """
    folder = Path(tempfile.mkdtemp(prefix="flashstill-"))
    job = json.dumps({"module": module, "path": _elsewhere(), "memory_bytes": memory_bytes, "folder": str(folder)})
    flags = ["-B"] if sys.flags.dont_write_bytecode else []
    command = [sys.executable, "-I", *flags, str(_CHILD), job, *arguments]
    return opened(command, environment(folder), folder, at=folder)


def opened(command: Sequence[str], variables: Mapping[str, str], folder: Path, at: Path | None = None) -> Isolated:
    """Start a process that is asked line by line. folder: of its own, removed when it ends, also if it never begins;
    at: its working directory, None for that of the caller."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=at, env=variables,
            start_new_session=True, bufsize=0,
        )  # fmt: skip
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return Isolated(process, folder)


def environment(folder: Path) -> dict[str, str]:
    """The minimal environment of the child process; HOME and TMPDIR are its own `folder`."""
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    return {**kept, "HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _elsewhere(path: Sequence[str] | None = None) -> list[str]:
    """The import path entries to pass on: existing absolute ones, without the working directory."""
    here = Path.cwd()
    entries = []
    for entry in sys.path if path is None else path:
        place = Path(entry)
        if entry and place.is_absolute() and place.exists() and place.resolve() != here:
            entries.append(entry)
    return entries
