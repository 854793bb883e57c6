"""The shell of the page: its HTML, style and script, small, written by hand, and loading nothing from elsewhere.

The script asks the server for states and views (the protocol is in server.py) and shows what comes back.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from urllib.parse import quote

from flashstill.report.style import stylesheet

_HEAD, _DATA = "<!-- head -->", "<!-- data -->"


def served_page(token: str) -> str:
    """The page as the server gives it: style and script are files of the same server, asked for with the token."""
    query = f"?token={quote(token, safe='')}"
    head = f'<link rel="stylesheet" href="/page.css{query}">\n<script src="/page.js{query}" defer></script>'
    return whole_page(head)


def whole_page(head: str, data: str = "") -> str:
    """The HTML with its links or inlined parts; `data` stands at the end of the body."""
    return _text("index.html").replace(_HEAD, head).replace(_DATA, data)


def script() -> str:
    """The script of the page."""
    return _text("page.js")


def saved_script() -> str:
    """What answers the page's questions where there is no server: it stands before `script()`."""
    return _text("saved.js")


def style() -> str:
    """The style: that of all reports, and over it that of this page."""
    return stylesheet() + _text("page.css")


@cache
def _text(name: str) -> str:
    return files("flashstill.explore").joinpath("page", name).read_text(encoding="utf-8")
