"""The directory of a measurement: one line per finished request and run, so that a killed one goes on where it was.

    question.json    what was asked; a directory belongs to one question
    requests.jsonl   begin, request and run lines, appended; a torn last line is dropped
    summary.json     the result, written whole at the end (and what `exports` writes beside it)

Only runs with their `run` line count; requests of a run that was cut off stay in the file and are not counted.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from flashstill.bounded import check_regular
from flashstill.errors import BadInput
from flashstill.files import disk_errors, write_text
from flashstill.load_test.client import CLOCKS, Reply
from flashstill.load_test.drive import Ran
from flashstill.load_test.failures import KINDS, OK
from flashstill.load_test.question import Level
from flashstill.load_test.summary import Measured

SCHEMA = 1
QUESTION, REQUESTS, SUMMARY = "question.json", "requests.jsonl", "summary.json"
LONGEST_LINE = 2**26
Key = tuple[str, float, int]


class Kept:
    """Where a measurement keeps what it has; nothing is written without a directory."""

    def __init__(self, directory: Path | None, question: Mapping[str, Any]) -> None:
        self.directory = directory
        self._stream: IO[bytes] | None = None
        self.runs: dict[Key, Measured] = {}
        self.warm_ups: dict[tuple[str, float], dict[str, Any]] = {}
        if directory is None:
            return
        with disk_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        path = directory / REQUESTS
        has_begun = (directory / QUESTION).exists() and path.exists() and path.stat().st_size
        if not has_begun and {file.name for file in directory.iterdir()} - {QUESTION, REQUESTS}:
            raise BadInput(f"{directory} holds other files; give --out an empty directory, or one of a measurement")
        for name in (QUESTION, REQUESTS):
            if (directory / name).exists():
                check_regular(directory / name)
        with disk_errors(path):
            self._stream = path.open("ab+")
        try:
            self._begin(path, self._stream)
            self._check(directory, question)
            self._read(path, self._stream)
        except BaseException:
            self.close()
            raise

    def _begin(self, path: Path, stream: IO[bytes]) -> None:
        """Take the directory for this process, before anything in it is read or written."""
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(
                f"another measurement writes to {path.parent}; wait for it, or give another --out"
            ) from error

    def _check(self, directory: Path, question: Mapping[str, Any]) -> None:
        path = directory / QUESTION
        plain = json.loads(json.dumps({"schema": SCHEMA, **question}, default=str))
        requests = directory / REQUESTS
        if not path.exists() or not requests.stat().st_size:  # nothing was measured yet
            write_text(path, json.dumps(plain, indent=1) + "\n")
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} cannot be read; give another --out") from error
        if before != plain:
            names = [name for name in plain if not isinstance(before, dict) or before.get(name) != plain[name]]
            raise BadInput(f"{directory} belongs to another measurement: {', '.join(names)} differ; give another --out")

    def _read(self, path: Path, stream: IO[bytes]) -> None:
        """Finished runs of an earlier process; a torn last line is cut off."""
        stream.seek(0)
        open_runs: dict[Key, list[Reply]] = {}
        good = 0
        while line := stream.readline(LONGEST_LINE):
            if not line.endswith(b"\n"):
                break
            try:
                self._take(json.loads(line), open_runs)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise BadInput(f"{path} has a line that is none of a measurement; give another --out") from error
            good += len(line)
        stream.truncate(good)
        stream.seek(0, os.SEEK_END)

    def _take(self, row: dict[str, Any], open_runs: dict[Key, list[Reply]]) -> None:
        key = row["level"], float(row["value"]), int(row["run"])
        if row["record"] == "warm-up":
            self.warm_ups[key[:2]] = row["warm_up"]
        elif row["record"] == "begin":
            open_runs[key] = []
        elif row["record"] == "request":
            reply = _reply(row["reply"])
            if row["phase"] == "run":
                open_runs[key].append(reply)
        elif row["record"] == "run":
            self.runs[key] = Measured(
                run=key[2], seed=row["seed"], replies=open_runs.pop(key), ran=Ran(**row["ran"]), joules=row["joules"]
            )

    def _write(self, record: str, level: Level, run: int, **more: Any) -> None:
        if self._stream is None or self.directory is None:
            return
        row = {"record": record, "level": level.kind, "value": level.value, "run": run, **more}
        with disk_errors(self.directory / REQUESTS):
            self._stream.write(json.dumps(row).encode() + b"\n")
            self._stream.flush()

    def begin(self, level: Level, run: int) -> None:
        """A run begins; requests of it that are there already are not counted."""
        self._write("begin", level, run)

    def request(self, level: Level, run: int, phase: str, reply: Reply) -> None:
        """Keep a finished request, with its times from the start of the run."""
        if self._stream is not None:
            plain = dataclasses.asdict(reply) | {"gaps_s": reply.gaps_s.tolist()}
            self._write("request", level, run, phase=phase, reply=plain)

    def warm_up(self, level: Level, result: dict[str, Any]) -> None:
        """Keep how a warm-up ended."""
        self.warm_ups[level.kind, level.value] = result
        self._write("warm-up", level, 0, warm_up=result)

    def finished(self, level: Level, measured: Measured) -> None:
        """Keep a finished run, on the disk."""
        self.runs[level.kind, level.value, measured.run] = measured
        ran = dataclasses.asdict(measured.ran)
        self._write("run", level, measured.run, seed=measured.seed, ran=ran, joules=measured.joules)
        if self._stream is not None:
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file, which frees the directory."""
        if self._stream is not None:
            self._stream.close()


def _reply(row: dict[str, Any]) -> Reply:
    """A kept request; ValueError or TypeError for one that nobody wrote."""
    reply = Reply(**row | {"gaps_s": array("d", row["gaps_s"])})
    clocks = [value for name in CLOCKS if (value := getattr(reply, name)) is not None]
    counts = [reply.number, reply.wanted_prompt, reply.wanted_output, reply.output_tokens, reply.prompt_tokens or 0]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in (*clocks, *counts)):
        raise ValueError("a time or a count is no number")
    if not all(map(math.isfinite, reply.gaps_s)) or reply.outcome not in (OK, *KINDS):
        raise ValueError("a gap is no number, or an outcome is unknown")
    return reply
