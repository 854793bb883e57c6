"""The style of all pages: the colours of text, paper and charts, for light, dark, phone and print; it loads nothing."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def stylesheet() -> str:
    """The whole sheet of a page as CSS text."""
    return chart_style() + _text("page.css")


@cache
def chart_style() -> str:
    """What a chart needs alone: its colours and its marks."""
    return _text("charts.css")


def _text(name: str) -> str:
    return files("flashstill.report").joinpath(name).read_text(encoding="utf-8")
