"""The style of all pages: one sheet with the colours of text, paper and charts, for light, dark, phone and print."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def stylesheet() -> str:
    """The sheet as CSS text; it loads nothing."""
    return files("flashstill.report").joinpath("style.css").read_text(encoding="utf-8")
