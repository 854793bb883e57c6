"""The logger's side: a process that reads metrics from standard input and hands them to one package.

    python -m flashstill.loggers.writer LOGGER FOLDER

The first line is {"name", "group", "config"} of the run; each other line the metrics of a step.  A step is noted in
FOLDER/step before it is handed over, so that none is handed over twice, whenever this process or the machine stops.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flashstill.files import write_text

LONGEST_S = 600
"""for a package to begin, to take the metrics of a step, and in the end to send what it has: beyond, it is hung"""
Log = Callable[[int, Mapping[str, float]], None]
Opened = tuple[Log, Callable[[], None]]
"""(log the metrics of a step, close)"""


def tensorboard(folder: Path, run: Mapping[str, Any]) -> Opened:
    """Event files as torch.utils.tensorboard writes them, without torch."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))

    def log(step: int, metrics: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    return log, writer.close


def trackio(folder: Path, run: Mapping[str, Any]) -> Opened:
    """A data base in the folder, unless TRACKIO_DIR names another, a Space or a server."""
    os.environ.setdefault("TRACKIO_DIR", str(folder))
    import trackio as package

    opened = package.init(
        project=os.environ.get("TRACKIO_PROJECT", "flashstill"), name=f"{run['name']}-{run['id']}", group=run["group"],
        config=dict(run["config"]), resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False,
    )  # fmt: skip
    return lambda step, metrics: opened.log(dict(metrics), step=step), opened.finish


def wandb(folder: Path, run: Mapping[str, Any]) -> Opened:
    """Offline in the folder, for `wandb sync`, unless WANDB_MODE says otherwise."""
    import wandb as package

    opened = package.init(
        project=os.environ.get("WANDB_PROJECT", "flashstill"), name=run["name"], group=run["group"], id=run["id"],
        config=dict(run["config"]), dir=str(folder), mode=os.environ.get("WANDB_MODE", "offline"), resume="allow",
        settings=package.Settings(console="off", x_disable_stats=True, save_code=False, disable_git=True),
    )  # fmt: skip
    return lambda step, metrics: opened.log(dict(metrics), step=step), opened.finish


OPENERS: dict[str, Callable[[Path, Mapping[str, Any]], Opened]] = {
    "tensorboard": tensorboard, "trackio": trackio, "wandb": wandb,
}  # fmt: skip


def main(name: str, folder: Path) -> None:
    """Log what standard input brings until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the process of an interrupted run has taken everything
        about = json.loads(sys.stdin.readline())
        signal.alarm(LONGEST_S)
        log, close = OPENERS[name](folder, run_of(folder, about))
        signal.alarm(0)
        step_file = os.open(folder / "step", os.O_RDWR | os.O_CREAT, 0o644)
        last = int(os.pread(step_file, 20, 0) or b"0")
        for line in sys.stdin:
            if not line.endswith("\n"):
                break  # the training was killed while it wrote
            row = json.loads(line)
            step = int(row.pop("step"))
            if step > last:
                last = step
                os.pwrite(step_file, f"{step:020d}".encode(), 0)
                signal.alarm(LONGEST_S)
                log(step, row)
                signal.alarm(0)
        signal.alarm(LONGEST_S)
        close()


def run_of(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """What was told of the run, with its id, made when it began."""
    path = folder / "run.json"
    if path.is_file():
        return {**about, "id": json.loads(path.read_text(encoding="utf-8"))["id"]}
    run = {**about, "id": secrets.token_hex(4)}
    write_text(path, json.dumps({"id": run["id"], "name": run["name"]}))
    return run


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
