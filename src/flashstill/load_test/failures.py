"""The kinds of failures of a request: every request that was sent ends as `ok` or as exactly one of these."""

from __future__ import annotations

KINDS = {
    "no_connection": "no connection could be made",
    "refused": "the server refused it (status 4xx, but not 429)",
    "busy": "the server had no room for it (429 or 503)",
    "server_failed": "the server failed (another status 5xx)",
    "redirect": "the server sent it on to another address, which is not followed",
    "wrong_type": "the answer is no stream of events",
    "server_error": "the stream held an error of the server",
    "garbage": "the stream held something that is no event",
    "long_line": "a line of the stream has no end",
    "too_large": "the answer has more bytes than such an answer can have",
    "cut_off": "the connection was closed before the answer ended",
    "no_token": "the answer ended without a token",
    "stalled": "no byte came for as long as --stall allows",
    "timeout": "it took longer than --time-limit",
    "not_sent": "not sent, as the server had failed too often in a row",
    "interrupted": "in flight when the measurement was stopped",
}
OK = "ok"
"""how a request ended that failed in no way"""


def status_kind(status: int) -> str:
    """The kind of failure of a response status other than 200."""
    if status in (429, 503):
        return "busy"
    if 300 <= status < 400:
        return "redirect"
    return "server_failed" if status >= 500 else "refused"
