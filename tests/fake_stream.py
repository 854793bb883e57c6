"""A streaming server on a free port: answers as vLLM does at a known pace, and misbehaves where a test asks it to.

faults: what happens to the next streams before any is answered well (a key of `FAULTS`), or to all with `always`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

Write = Callable[[bytes], Awaitable[None]]


class FakeStream:
    """Counts what it was asked. first_s, token_s: seconds to the first token, and between tokens; slots: how many
    requests it works on at a time; unknown: request fields that it refuses. together: all questions but the first, with
    which a client probes, wait until so many are in flight at a time, as clients who keep them in flight bring about on
    any machine."""

    def __init__(self, first_s: float = 0.0, token_s: float = 0.0, slots: int = 10_000) -> None:
        self.first_s, self.token_s = first_s, token_s
        self.faults: list[str] = []
        self.always = ""
        self.has_usage, self.reasoning, self.short, self.claimed = True, 0, 0, 1
        """whether it counts tokens, reasoning tokens, tokens too few, and by how much it multiplies its count"""
        self.names = ["tiny"]
        self.listing = ""
        """a fault of the list of models"""
        self.template = 3
        self.unknown: set[str] = set()
        self.questions: list[dict[str, Any]] = []
        self.in_flight = self.most_in_flight = 0
        self.together = 1
        self._slots = slots
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60.0)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._room, self._met = asyncio.Semaphore(self._slots), asyncio.Event()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request, *lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._answer(request.split()[1], body, write):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if self.always == "reset" else writer.close()

    async def _answer(self, path: str, body: bytes, write: Write) -> bool:
        """Answer one request; False closes the connection."""
        if path == "/v1/models":
            if self.listing:
                return await FAULTS[self.listing](write)
            cards = [{"id": name, "max_model_len": 4096} for name in self.names]
            await _whole(write, "200 OK", {"data": cards})
            return True
        question = json.loads(body)
        self.questions.append(question)
        refused = self.unknown & set(question)
        if refused:
            await _whole(write, "422 Unprocessable Entity", {"detail": f"Unexpected fields in the request: {refused}"})
            return True
        fault = self.always or (self.faults.pop(0) if self.faults else "")
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self.in_flight >= self.together:
            self._met.set()
        with self._leaving() as leave:
            if self.together > 1 and len(self.questions) > 1:
                await asyncio.wait_for(self._met.wait(), 60.0)
            async with self._room:
                if fault:
                    return await FAULTS[fault](write)
                await self._stream(question, write, path.endswith("chat/completions"), leave)
        return True

    @contextmanager
    def _leaving(self) -> Iterator[Callable[[], None]]:
        """What counts a request as done, once: before its client knows that it is, or else at the end."""
        with ExitStack() as done:
            done.callback(self._count_down)
            yield done.close

    def _count_down(self) -> None:
        self.in_flight -= 1

    async def _stream(self, question: dict[str, Any], write: Write, chat: bool, leave: Callable[[], None]) -> None:
        send = chunked(write)
        await write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        if chat:
            await send(event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}))
        many = max(question["max_tokens"] - self.short, 1)
        for number in range(many):
            await asyncio.sleep(self.token_s if number else self.first_s)
            field = "reasoning_content" if number < self.reasoning else "content"
            choice = {"delta": {field: " x"}} if chat else {"text": " x"}
            finish = "length" if number == many - 1 else None
            await send(event({"choices": [{**choice, "finish_reason": finish}]}))
        if self.has_usage and question.get("stream_options"):
            texts = [each["content"] for each in question["messages"]] if chat else [question["prompt"]]
            turns = len(texts) // 2 + 1
            usage = {
                "prompt_tokens": sum(len(text.split()) for text in texts) + self.template * chat * turns,
                "completion_tokens": many * self.claimed,
            }
            await send(event({"choices": [], "usage": usage}))
        leave()
        await send(b"data: [DONE]\n\n")
        await write(b"0\r\n\r\n")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
TOKEN = {"choices": [{"text": " x", "finish_reason": None}]}


def event(tree: Any) -> bytes:
    return b"data: " + json.dumps(tree).encode() + b"\n\n"


def chunked(write: Write) -> Write:
    async def send(data: bytes) -> None:
        await write(b"%x\r\n%s\r\n" % (len(data), data))

    return send


async def _whole(write: Write, status: str, tree: Any, kind: str = "application/json", more: str = "") -> None:
    body = json.dumps(tree).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    await write(head.encode() + body)


def _status(status: str, more: str = "") -> Callable[[Write], Awaitable[bool]]:
    async def answer(write: Write) -> bool:
        await _whole(write, status, {"error": {"message": "not now"}}, more=more)
        return True

    return answer


def _bytes(*pieces: bytes, wait_s: float = 0.0, forever: bool = False) -> Callable[[Write], Awaitable[bool]]:
    """The head of a stream that ends with the connection, and pieces; the last one again and again if `forever`."""

    async def answer(write: Write) -> bool:
        await write(HEAD + b"Connection: close\r\n\r\n")
        for piece in pieces:
            await write(piece)
            await asyncio.sleep(wait_s)
        while forever:
            await write(pieces[-1])
            await asyncio.sleep(wait_s)
        return False

    return answer


async def _nothing(_: Write) -> bool:
    await asyncio.sleep(60.0)
    return False


async def _gone(_: Write) -> bool:
    return False


async def _another_type(write: Write) -> bool:
    await _whole(write, "200 OK", TOKEN)
    return True


async def _half_a_head(write: Write) -> bool:
    await write(b"HTTP/1.1 200 OK\r\nContent-Ty")
    return False


async def _no_http(write: Write) -> bool:
    await write(b"\x00\xff\x13garbage that is no HTTP\r\n\r\n")
    return False


FAULTS: dict[str, Callable[[Write], Awaitable[bool]]] = {
    "dies": _gone,
    "reset": _gone,
    "silent": _nothing,
    "half a head": _half_a_head,
    "no http": _no_http,
    "429": _status("429 Too Many Requests"),
    "503": _status("503 Service Unavailable"),
    "500": _status("500 Internal Server Error"),
    "400": _status("400 Bad Request"),
    "redirect": _status("307 Temporary Redirect", "Location: http://127.0.0.1:1/v1/completions\r\n"),
    "another type": _another_type,
    "dies in a stream": _bytes(event(TOKEN), event(TOKEN)),
    "half a line": _bytes(event(TOKEN), b'data: {"choices": [{"te'),
    "stalls": _bytes(event(TOKEN), b": waiting\n", wait_s=60.0),
    "drips": _bytes(event(TOKEN), b":", wait_s=0.02, forever=True),
    "garbage": _bytes(b"<html>not a stream</html>\n\n"),
    "no json": _bytes(b"data: {]\n\n"),
    "no object": _bytes(b"data: 17\n\n"),
    "deep": _bytes(b"data: " + b"[" * 100_000 + b"\n\n"),
    "nonsense": _bytes(event({"weather": "fine"})),
    "error": _bytes(event({"error": {"message": "out of memory"}})),
    "endless line": _bytes(b"data: ", b"x" * 2**18, forever=True),
    "endless": _bytes(event({**TOKEN, "padding": "x" * 2**19}), forever=True),
    "no end": _bytes(event(TOKEN), b"data: [DONE]\n\n", b": and on\n", forever=True, wait_s=0.02),
    "nothing in it": _bytes(b"data: [DONE]\n\n"),
}
