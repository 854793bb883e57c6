"""The one-sentence error for a package that is not installed: which extra of this project brings it.

The cost arm works in a plain installation. The learning arm's packages are the extras of pyproject.toml, and what they
hold is read from the installed metadata, so that no list stands twice.
"""

from __future__ import annotations

import re

PROJECT = "flashstill"


def missing_package(error: ModuleNotFoundError) -> str | None:
    """What to install where a module of another project is missing; None for a module of our own, which is a fault."""
    module = (error.name or "").partition(".")[0]
    if module in ("", PROJECT):
        return None
    extra = _extras().get(_plain(module))
    if extra is None:
        return f"this needs the package {module!r}, which is not installed; pip install {module} brings it"
    what = f'"{PROJECT}[{extra}]"' if extra else PROJECT
    return f"this needs the package {module!r}, which is not installed; pip install {what} brings it"


def _extras() -> dict[str, str]:
    """Package -> the extra that asks for it, "" for what every installation has."""
    from importlib.metadata import PackageNotFoundError, requires  # 20 ms, for a sentence that most runs never print

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
