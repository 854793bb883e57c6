"""A virtual environment of its own for each peer, made once and kept beside the benchmarks' results."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(os.environ.get("FLASHSTILL_BENCHMARKS", Path.home() / ".cache" / "flashstill" / "benchmarks"))

QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


class Unavailable(Exception):
    """A peer cannot be installed or does not run here; the message is what a reader is told."""


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of the environment that holds the requirements; made where it is absent or was left half made."""
    home = CACHE / name
    python = home / "bin" / "python"
    done = home / ".done"
    wanted = "\n".join(requirements)
    if done.exists() and done.read_text() == wanted:
        return python
    print(f"installing {', '.join(requirements)} ...", file=sys.stderr, flush=True)
    try:
        venv.create(home, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
            check=True, capture_output=True, text=True, timeout=1800,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise Unavailable(last(error.stderr) or f"pip ended with {error.returncode}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
    done.write_text(wanted)
    return python


def last_line(python: Path, script: Path, *arguments: str, timeout_s: float = 600) -> str:
    """The last line that a script prints under another interpreter; it inherits the pinning of this process."""
    quiet = os.environ | QUIET | {"PYTHONPATH": ""}
    try:
        ran = subprocess.run(
            [python, script, *arguments], check=True, capture_output=True, text=True, timeout=timeout_s, env=quiet
        )
    except subprocess.CalledProcessError as error:
        raise Unavailable(last(error.stderr) or f"ended with {error.returncode}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
    return last(ran.stdout)


def last(text: str | None) -> str:
    return ((text or "").strip().splitlines() or [""])[-1]
