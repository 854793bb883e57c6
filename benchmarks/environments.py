"""A virtual environment of its own for each peer, made once from its lock file and kept beside the results."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

CACHE = Path(os.environ.get("FLASHSTILL_BENCHMARKS", Path.home() / ".cache" / "flashstill" / "benchmarks"))

ROOT = Path(__file__).resolve().parents[1]
QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


class Unavailable(Exception):
    """A peer cannot be installed or does not run here; the message is what a reader is told."""


def environment(name: str) -> Path:
    """The interpreter of the environment that holds locks/NAME.txt; made where it is absent or was left half made."""
    home = CACHE / name
    python = home / "bin" / "python"
    done = home / ".done"
    wanted = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return python
    print(f"installing {name} ...", file=sys.stderr, flush=True)
    try:
        venv.create(home, with_pip=True, clear=True)
        install = [str(python), str(ROOT / "scripts" / "install"), name]
        subprocess.run(install, check=True, capture_output=True, text=True, timeout=1800)
    except subprocess.CalledProcessError as error:
        raise Unavailable(last(error.stderr) or f"the installation ended with {error.returncode}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
    done.write_text(wanted, encoding="utf-8")
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
