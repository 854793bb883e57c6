"""The server of the page: Python's own HTTP server on 127.0.0.1, with the engine behind it.

The protocol (GET and HEAD only; every request carries the token of the start as `token=`, on whichever place of the
query; all answers are no-store):

    GET /?token=T&STATE              the page
    GET /page.js?token=T             its script; GET /page.css?token=T its style
    GET /states?token=T&STATE        JSON: {"state": {...}, "query": canonical STATE, "views": [...], "controls": [...]}
        views:    {"name", "title", "controls": names of the controls that it listens to}, in the order of the page
        controls: {"name", "label", "kind", "unit", "help", "default", ...} where kind is
                  "choice"  one of `choices`: [{"value", "label"}]; a value that is not listed may be refused
                  "choices" several of `choices` with commas between, at most `most`
                  "number"  from `low` to `high`; `stops`: the values that a slider goes through; `optional`: may be
                            left out, which `default` null says (a bound that is not set)
                  "edits"   repeated `set=NAME.QUANTITY=AMOUNT`, at most `most`; `choices`: the facts of the chips in
                            the state, {"value": "h100-sxm.memory_bytes_per_s", "label", "unit", "now": number}
    GET /view/NAME?token=T&STATE     JSON of view.View, with "query" (canonical STATE) and "state"
    GET /table/CHART.csv?token=T&STATE   the table of a chart of the state's view

STATE is a query string, as `view=model&model=qwen3-8b&chip=h100-sxm&batch=16&set=h100-sxm.memory_bytes_per_s%3D5e12`;
what is left out has its default.  A mistake is answered with status 400 and {"error": one sentence}; what no
configuration can do with 200 and a View whose lead says so, with the counted reasons as a table; a wrong token, Host
or Origin with 403, another method with 405, another path with 404, a busy server with 503.

Why the token is in every query and not in a cookie: a cookie of 127.0.0.1 goes to every port, so any other local server
would be sent it, and two pages at once would overwrite each other's.  The token lives as long as the server.
"""

from __future__ import annotations

import hmac
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from flashstill.errors import BadInput, FlashstillError
from flashstill.explore.answers import Answers, as_json
from flashstill.explore.controls import quoted
from flashstill.explore.shell import script, served_page, style
from flashstill.explore.state import LONGEST_QUERY

HOST = "127.0.0.1"
MOST_REQUESTS = 96
"""at the same time; more are told to come back"""
READ_SECONDS, LIFE_SECONDS = 5.0, 20.0
"""longest wait for a part of a request, and for all of it"""
TOKEN = "token"
JSON, CSV, HTML = "application/json; charset=utf-8", "text/csv; charset=utf-8", "text/html; charset=utf-8"
ASSETS = {
    "page.js": ("text/javascript; charset=utf-8", script),
    "page.css": ("text/css; charset=utf-8", style),
}
"""what lies beside the page, by its name in an address: content type, and what gives its text"""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Connection": "close",
}


BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class ExploreServer(ThreadingHTTPServer):
    """The listening server: `address` is what the user opens. OSError where the port cannot be taken."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, answers: Answers, token: str, port: int = 0) -> None:
        super().__init__((HOST, port), Handler)
        self.answers, self.token = answers, token
        self.port = int(self.server_address[1])
        self.hosts = frozenset({f"{HOST}:{self.port}", f"localhost:{self.port}"})
        self.free = threading.BoundedSemaphore(MOST_REQUESTS)
        self._began: dict[socket.socket, float] = {}

    def address(self, query: str = "") -> str:
        """The page's URL, with the token, at a state."""
        return f"http://{HOST}:{self.port}/?{TOKEN}={self.token}{'&' if query else ''}{query}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for the request; one too many is told so at once."""
        if not self.free.acquire(blocking=False):
            with suppress(OSError):
                request.settimeout(1.0)
                request.sendall(BUSY)
            self.shutdown_request(request)
            return
        self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request; its place is free again whatever happens."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._began.pop(request, None)
            self.free.release()

    def has_come(self, request: socket.socket) -> None:
        """The whole request is there: its answer takes as long as it takes, on a busy machine too."""
        self._began.pop(request, None)

    def service_actions(self) -> None:
        """Close connections that send their request a byte at a time."""
        for request, began in list(self._began.items()):
            if time.monotonic() - began > LIFE_SECONDS:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that hangs up is no news, and what goes wrong in an answer is caught in `Handler`."""


class Refused(Exception):
    """A request that is not answered: the status and one sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """One request: checked, answered, closed."""

    server: ExploreServer
    protocol_version = "HTTP/1.1"
    server_version = "flashstill"
    sys_version = ""
    timeout = READ_SECONDS

    def do_GET(self) -> None:
        """Answer, or one sentence with a status."""
        self.server.has_come(self.connection)
        try:
            self._check()
            kind, body = self._answer()
        except Refused as refused:
            self._refuse(refused.status, str(refused))
        except FlashstillError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:  # no traceback goes to the client; the terminal that runs the server has the name
            print(f"flashstill explore: {type(error).__name__}: {error}", file=sys.stderr)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "this view failed in a way that is a bug; please report it")
        else:
            self._send(HTTPStatus.OK, kind, body)

    do_HEAD = do_GET  # noqa: N815  # the name that http.server calls

    def _check(self) -> None:
        """Refuse what another site or program asks: its Host, Origin, kind of fetch, or token tells."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            raise Refused(HTTPStatus.FORBIDDEN, "this Host is not the one that the page was started on")
        own = {f"http://{host}" for host in self.server.hosts}
        if not own.issuperset(self.headers.get_all("Origin") or []):
            raise Refused(HTTPStatus.FORBIDDEN, "requests of another origin are not answered")
        if not {"none", "same-origin"}.issuperset(self.headers.get_all("Sec-Fetch-Site") or []):
            raise Refused(HTTPStatus.FORBIDDEN, "requests of another site are not answered; open the address itself")
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            raise Refused(HTTPStatus.BAD_REQUEST, "a request has no body here")

    def _answer(self) -> tuple[str, bytes]:
        """(content type, body) of the request's path and query."""
        path, _, query = self.path.partition("?")
        if len(query) > LONGEST_QUERY:
            raise BadInput(f"the query has {len(query):,} characters; it may have up to {LONGEST_QUERY:,}")
        query = self._without_token(query)
        answers, parts = self.server.answers, path.split("/")[1:]
        if path == "/":
            return HTML, served_page(self.server.token).encode()
        if path == "/states":
            return JSON, answers.states_json(query)
        if len(parts) == 1 and parts[0] in ASSETS:
            kind, text = ASSETS[parts[0]]
            return kind, text().encode()
        if len(parts) == 2 and parts[0] == "view":
            return JSON, answers.view_json(parts[1][:40], query)
        if len(parts) == 2 and parts[0] == "table" and parts[1].endswith(".csv"):
            return CSV, answers.table_csv(parts[1][:40].removesuffix(".csv"), query)
        raise Refused(HTTPStatus.NOT_FOUND, f"there is nothing at {quoted(path)}")

    def _without_token(self, query: str) -> str:
        """The query without its token; Refused where that is missing, wrong or given twice."""
        fields = query.split("&") if query else []
        tokens = [field.partition("=")[2] for field in fields if field.partition("=")[0] == TOKEN]
        given = tokens[0].encode("utf-8", "surrogateescape") if len(tokens) == 1 else b""
        if not hmac.compare_digest(given, self.server.token.encode()):
            raise Refused(
                HTTPStatus.FORBIDDEN, "the token is missing or wrong; open the address that the command printed"
            )
        return "&".join(field for field in fields if field.partition("=")[0] != TOKEN)

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self._send(status, JSON, as_json({"error": sentence}))

    def _send(self, status: HTTPStatus, kind: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
        self.close_connection = True
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses by itself, in our words: 501 for an unknown method becomes 405."""
        allowed = code == HTTPStatus.NOT_IMPLEMENTED
        status = HTTPStatus.METHOD_NOT_ALLOWED if allowed else HTTPStatus(code)
        sentence = "only GET and HEAD are answered" if allowed else f"the request cannot be read: {status.phrase}"
        self._send(status, JSON, as_json({"error": sentence}), {"Allow": "GET, HEAD"} if allowed else None)

    def log_message(self, *values: Any) -> None:
        """Nothing: the token stands in every line of a log."""
