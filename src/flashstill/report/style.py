"""The style of all pages: the colours of text, paper and charts, for light, dark, phone and print; it loads nothing."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def stylesheet() -> str:
    """The whole sheet of a page as CSS text."""
    return chart_style() + text_of("page.css")


@cache
def chart_style() -> str:
    """What a chart needs alone: its colours and its marks."""
    return text_of("charts.css")


def text_of(name: str) -> str:
    """A file of this room."""
    return files("flashstill.report").joinpath(name).read_text(encoding="utf-8")
