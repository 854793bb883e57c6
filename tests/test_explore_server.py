"""The server of the explorer's page: who may ask what, and that many may ask at once."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from flashstill.errors import BadInput
from flashstill.explore import server as server_module
from flashstill.explore.kinds import Kind
from flashstill.explore.server import HEADERS, ExploreServer
from flashstill.explore.starting import listening
from tests.commands import listening as started
from tests.explored import answers
from tests.hostile import hostile_queries, is_sentence


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="module")
def page() -> Iterator[ExploreServer]:
    """With limits of a request that no busy machine reaches."""
    with pytest.MonkeyPatch.context() as patch, listening(answers(), 0) as server:
        patch.setattr(server_module, "LIFE_SECONDS", 600.0)
        patch.setattr(server_module.Handler, "timeout", 600.0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(page: ExploreServer, path: str, method: str = "GET", token: str | None = "", **headers: str) -> Reply:
    """One request; token: None for none, "" for the right one."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=120)
    token = page.token if token == "" else token
    address = path if token is None else f"{path}{'&' if '?' in path else '?'}token={token}"
    connection.putrequest(method, address, skip_host=True, skip_accept_encoding=True)
    for name, value in {
        "Host": f"127.0.0.1:{page.port}",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    reply = Reply(answer.status, dict(answer.getheaders()), answer.read())
    connection.close()
    return reply


def test_the_page_and_what_belongs_to_it(page: ExploreServer) -> None:
    for path, kind in (
        ("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css"), ("/states", "application/json"),
        ("/view/byte", "application/json"), ("/table/way.csv?view=byte", "text/csv"),
    ):  # fmt: skip
        reply = ask(page, path)
        assert reply.status == 200, reply.body[:200]
        assert reply.headers["Content-Type"].startswith(kind)
        assert HEADERS.items() <= reply.headers.items()
        assert len(reply.body) == int(reply.headers["Content-Length"]) > 50


def test_the_policy_lets_nothing_in() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


def test_nothing_is_inline(page: ExploreServer) -> None:
    html = ask(page, "/").body.decode()
    assert " style=" not in html
    assert "onclick" not in html
    assert html.count("<script") == html.count("<script src=")
    for name in ("model", "chips", "front", "numbers", "placement", "byte"):
        charts = ask(page, f"/view/{name}?view={name}&chip=tpu-v6e&model=qwen3-0.6b").document["charts"]
        drawn = "".join(chart["svg"] for chart in charts)
        assert drawn.count("<svg") == len(charts)
        assert " style=" not in drawn
        assert "<script" not in drawn


def test_states_say_what_each_control_may_be(page: ExploreServer) -> None:
    told = ask(page, "/states?view=front&chip=b200&set=b200.idle_w%3D80").document
    assert [view["name"] for view in told["views"]] == ["model", "chips", "front", "numbers", "placement", "byte"]
    controls = {control["name"]: control for control in told["controls"]}
    assert {name for view in told["views"] for name in view["controls"]} <= set(controls)
    assert controls["batch"]["stops"][:3] == [1, 2, 4]
    assert controls["context"]["high"] == 40960
    assert controls["max_tpot"]["default"] is None
    assert any(choice["value"] == "b200.memory_bytes_per_s" for choice in controls["set"]["choices"])
    assert told["state"]["set"] == ["b200.idle_w=80"]
    again = ask(page, f"/states?{told['query']}").document
    assert again == told


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://127.0.0.1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Content_Length": "3"}, 400),
        ({"Transfer_Encoding": "chunked"}, 400),
    ],
)
def test_other_sites_are_refused(page: ExploreServer, headers: dict[str, str], status: int) -> None:
    reply = ask(page, "/states", **headers)
    assert reply.status == status
    if status != 200:
        assert is_sentence(reply.document["error"])
        assert page.token not in reply.body.decode()


def test_own_origins_are_answered(page: ExploreServer) -> None:
    for host in (f"127.0.0.1:{page.port}", f"localhost:{page.port}"):
        assert ask(page, "/states", Host=host, Origin=f"http://{host}").status == 200


@pytest.mark.parametrize("token", [None, "x", "a" * 5000, "%00", "é"[:0] + "%C3%A9"])
@pytest.mark.parametrize("path", ["/", "/page.js", "/states", "/view/model", "/nothing"])
def test_without_the_token_nothing_is_said(page: ExploreServer, path: str, token: str | None) -> None:
    reply = ask(page, path, token=token)
    assert reply.status in (400, 403)
    assert is_sentence(reply.document["error"])
    assert "flashstill explore" not in reply.body.decode()


def test_a_token_given_twice_is_none(page: ExploreServer) -> None:
    assert ask(page, f"/states?token={page.token}").status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_other_methods_are_refused(page: ExploreServer, method: str) -> None:
    reply = ask(page, "/states", method)
    assert reply.status == 405
    assert reply.headers["Allow"] == "GET, HEAD"
    assert is_sentence(reply.document["error"])


def test_head_is_get_without_its_body(page: ExploreServer) -> None:
    head, get = ask(page, "/states", "HEAD"), ask(page, "/states")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize(
    "path",
    ["/../server.py", "/page/index.html", "//etc/passwd", "/view/", "/view/model/x", "/table/way", "/view/..%2f..%2fx",
     "/%2e%2e/x", "/table/../x.csv", "/STATES", "/view/<script>"],
)  # fmt: skip
def test_there_are_no_paths(page: ExploreServer, path: str) -> None:
    reply = ask(page, path.replace("<", "%3C"))
    assert reply.status in (400, 404)
    assert is_sentence(reply.document["error"])


def test_hostile_queries_are_answered_with_a_sentence(page: ExploreServer) -> None:
    queries = [query for query in hostile_queries() if len(query) < 60_000 and "\n" not in query]
    assert len(queries) >= 200
    for query in queries[::3]:
        name = "chips" if "view=chips" in query else "front" if "view=front" in query else "model"
        reply = ask(page, f"/view/{name}?{query}")
        assert reply.status in (400, 403), query
        assert is_sentence(reply.document["error"]), query


@pytest.mark.slow
def test_fifty_at_once_are_answered_alike(page: ExploreServer) -> None:
    paths = [
        "/view/byte?view=byte&batch=5",
        "/view/chips?view=chips&batch=6&chips_from=l4,l40s",
        "/states?batch=7",
    ] * 17
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda path: ask(page, path), paths[:50]))
    assert {reply.status for reply in replies} == {200}
    for number in range(3):
        assert len({reply.body for reply in replies[number::3]}) == 1


def test_a_raw_request_that_is_none(page: ExploreServer) -> None:
    raws = (
        b"\x16\x03\x01\x00\xa5\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    )
    for raw in raws:
        with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
            connection.sendall(raw)
            told = b""
            # What the server leaves unread of a request resets the connection, after its answer.
            with suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    told += part
        assert b"Traceback" not in told
        assert b'{"error": ' in told, raw[:30]


@pytest.mark.parametrize(
    ("first", "second"),
    [("Origin: http://{own}", "Origin: http://evil"), ("Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site")],
)
def test_a_header_given_twice_hides_nothing(page: ExploreServer, first: str, second: str) -> None:
    own = f"127.0.0.1:{page.port}"
    lines = (f"GET /states?token={page.token} HTTP/1.1", f"Host: {own}", first.format(own=own), second, "", "")
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")


def test_a_view_is_not_read_out_of_another_field(page: ExploreServer) -> None:
    """An edit whose text holds "view=" says nothing of the view, which the path names."""
    told = ask(page, "/view/byte?set=preview=1").document["error"]
    assert "preview" in told
    assert "the state is of the view" not in told


def test_too_many_are_told_to_come_back(page: ExploreServer) -> None:
    # A client has its answer a moment before the place of its request is free again: wait for each place.
    taken = [page.free.acquire(timeout=60) for _ in range(server_module.MOST_REQUESTS)]
    try:
        assert all(taken)
        assert ask(page, "/states").status == 503
    finally:
        for was_taken in taken:
            if was_taken:
                page.free.release()
    assert ask(page, "/states").status == 200


def test_a_taken_port_is_a_sentence(page: ExploreServer) -> None:
    with pytest.raises(BadInput, match="cannot be taken"):
        listening(page.answers, page.port)
    with pytest.raises(BadInput, match="must lie between"):
        listening(page.answers, 70_000)


def test_a_bug_is_said_without_its_trace(
    page: ExploreServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def build(*_: object) -> Any:
        raise ZeroDivisionError("secret of the inside")

    broken = Kind(name="model", title="Broken", controls=(), build=build, command=lambda given, state: "")
    monkeypatch.setitem(page.answers.kinds, "model", broken)
    reply = ask(page, "/view/model?batch=3")
    assert reply.status == 500
    assert is_sentence(reply.document["error"])
    assert b"secret" not in reply.body
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_an_answer_may_take_long(page: ExploreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a request that comes too slowly is cut off, not one whose answer is worked on."""

    def build(*_: object) -> Any:
        monkeypatch.setattr(server_module, "LIFE_SECONDS", -1.0)
        looked.clear()
        assert looked.wait(60.0)
        raise BadInput("at last")

    def look() -> None:
        was_looking()
        looked.set()

    looked, was_looking = threading.Event(), page.service_actions
    monkeypatch.setattr(page, "service_actions", look)
    slow = Kind(name="model", title="Slow", controls=(), build=build, command=lambda given, state: "")
    monkeypatch.setitem(page.answers.kinds, "model", slow)
    assert ask(page, "/view/model?batch=7").document["error"] == "at last"


def test_only_this_machine_is_listened_to(page: ExploreServer) -> None:
    assert page.server_address[0] == "127.0.0.1"
    assert len(page.token) >= 40
    with listening(page.answers, 0) as other:
        assert other.token != page.token


@pytest.mark.slow
def test_ctrl_c_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "flashstill", "explore", "--no-browser", "--json"]
    with started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = ""
        while not told.endswith("}\n"):
            line = process.stdout.readline()
            assert line, told
            told += line
        port = json.loads(told)["port"]
        with socket.create_connection(("127.0.0.1", port), timeout=10):  # a silent client
            process.send_signal(signal.SIGINT)
            _, trouble = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in trouble
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
