"""The message for a package that is not installed: which extra of this project to install.

Cost predictions need only the base installation; distilling and evaluating need extras of pyproject.toml. Their
packages are read from the installed metadata, so the list is kept in one place.
"""

from __future__ import annotations

import re
from importlib.util import find_spec

PROJECT = "flashstill"


def missing_package(error: ModuleNotFoundError) -> str | None:
    """What to install for a missing third-party module, as a message; None for our own modules (a bug)."""
    module = (error.name or "").partition(".")[0]
    if module in ("", PROJECT):
        return None
    extra = _extras().get(_plain(module))
    if extra is None:
        return f"this needs the package {module!r}, which is not installed; pip install {module} brings it"
    what = f'"{PROJECT}[{extra}]"' if extra else PROJECT
    return f"this needs the package {module!r}, which is not installed; pip install {what} brings it"


def is_installed(module: str) -> bool:
    """Whether a top-level module can be imported; a plain directory of its name, such as the wandb/ that wandb leaves
    where it runs, is none."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


def _extras() -> dict[str, str]:
    """Package -> the extra that requires it; "" for required dependencies."""
    from importlib.metadata import PackageNotFoundError, requires  # takes 20 ms and is rarely needed

    extra_of: dict[str, str] = {}
    try:
        requirements = requires(PROJECT) or ()
    except PackageNotFoundError:  # run from a source tree that is not installed
        return extra_of
    for requirement in requirements:
        package = re.match(r"[A-Za-z0-9._-]+", requirement)
        extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", requirement)
        if package:
            extra_of.setdefault(_plain(package[0]), extra[1] if extra else "")
    return extra_of


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()
