"""One streamed request to a server, timed token by token; whatever the server does, it ends in bounded time and memory.

Nothing is retried, no redirect is followed, and no compressed answer is asked for: what is counted is what a user of
this server would see.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from flashstill.errors import BadInput, one_line
from flashstill.load_test.events import BODY_BYTES, BYTES_PER_TOKEN, END, Broken, Event, EventReader, event_of
from flashstill.load_test.failures import OK, status_kind
from flashstill.servers import (
    KEY_VARIABLE,
    LISTING_BYTES,
    api_key,
    headers_with,
    listed,
    message_in,
    proxy_of,
    served_models,
)

CONNECT_S, REST_S, REFUSAL_BYTES = 10.0, 0.5, 2**16
"""seconds to connect, and to end a body after its last event; bytes that are read of a refusal"""
CLOCKS = ("due", "sent", "first", "answer", "last", "ended")
"""fields of a reply that are times"""
_NOBODY = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.InvalidURL)


@dataclass(kw_only=True, slots=True)
class Reply:
    """What came back for one request. Times are of time.perf_counter until `since`; None where it did not happen.

    due: when it should have been sent; first: first token of any kind; answer: first token that is no reasoning;
    last: last token, or the end of the answer as the server says it; gaps_s: between the events that carry text.
    output_tokens: by the server's usage, else by the
    events with text (`counted_by`).  outcome: `ok`, or a kind of failure.
    """

    number: int
    due: float
    wanted_prompt: int
    wanted_output: int
    sent: float = 0.0
    first: float | None = None
    answer: float | None = None
    last: float | None = None
    ended: float = 0.0
    gaps_s: array[float] = field(default_factory=lambda: array("d"))
    prompt_tokens: int | None = None
    output_tokens: int = 0
    counted_by: str = "events"
    finish: str = ""
    outcome: str = OK
    detail: str = ""

    def take(self, event: Event, now: float) -> None:
        """Note an event that came at `now`."""
        if event.tokens is not None:
            self.prompt_tokens, self.output_tokens = event.tokens
            self.counted_by = "usage"
        self.finish = event.finish or self.finish
        if not (event.text or event.thinking):
            if event.finish and self.last is not None:
                self.last = now  # its last tokens had no text of their own
            return
        if self.first is None or self.last is None:
            self.first = now
        else:
            self.gaps_s.append(now - self.last)
        self.last = now
        if event.text and self.answer is None:
            self.answer = now
        if self.counted_by == "events":
            self.output_tokens += 1

    def since(self, started: float) -> None:
        """Make all times seconds from the start of the run, to the microsecond, as they are kept."""
        for name in CLOCKS:
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, round(value - started, 6))
        self.gaps_s = array("d", [round(gap, 6) for gap in self.gaps_s])


class Client:
    """A session with a server, made by `connected`."""

    def __init__(self, address: str, time_limit_s: float, stall_s: float, http: httpx2.AsyncClient, key: str) -> None:
        self.address, self.time_limit_s, self.stall_s = address, time_limit_s, stall_s
        self._http, self._key = http, key

    async def models(self) -> dict[str, Any]:
        """Served model -> context length. BadInput if nobody answers, or something that is no list of models."""
        status, body = 0, b""
        try:
            async with (
                asyncio.timeout(min(self.time_limit_s, self.stall_s)),
                self._http.stream("GET", f"{self.address}/models") as response,
            ):
                status = response.status_code
                body = await _bounded(response, LISTING_BYTES)
        except (TimeoutError, httpx2.ReadTimeout) as error:  # both wait as long; on a busy machine either ends first
            raise BadInput(f"{self.address} does not answer; is the server still starting?") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            why = one_line(error) or type(error).__name__
            raise BadInput(
                f"no server answers at {self.address} ({why}){self._through()}; start it, or correct --server"
            ) from error
        if status in (401, 403):
            raise BadInput(f"{self.address} asks for a key ({status}); put one into {KEY_VARIABLE}")
        if 300 <= status < 400:
            raise BadInput(f"{self.address} sends on to another address ({status}); give that one as --server")
        if status != 200:
            raise BadInput(
                f"{self.address}/models answers {status} {message_in(body, self._key)}{self._through()}; is it the"
                " right URL?"
            )
        return served_models(self.address, body)

    def _through(self) -> str:
        """The proxy in between, for a sentence."""
        proxy = proxy_of(self.address)
        return f" through the proxy {proxy} of the environment (NO_PROXY leaves it out)" if proxy else ""

    async def model(self, name: str) -> tuple[str, int | None]:
        """The served model of this name (the only one for ""), and its context length, None if the server does not say.

        A name that is not listed is believed: transformers lists what was downloaded, not the directory that it serves.
        """
        models = await self.models()
        if not name:
            if len(models) != 1:
                what = f"several models ({listed(models)})" if models else "no models"
                raise BadInput(f"{self.address} lists {what}; name the one to measure with --served-name")
            name = next(iter(models))
        longest = models.get(name)
        return name, longest if isinstance(longest, int) and longest > 0 else None

    async def ask(self, path: str, body: dict[str, Any], reply: Reply, said: list[str] | None = None) -> None:
        """Send `body`, and note all that comes back in `reply`, whose outcome says how it ended.

        said: gets the text of the answer.
        """
        reply.sent = time.perf_counter()
        try:
            async with asyncio.timeout(self.time_limit_s):
                await self._stream(path, body, reply, said)
        except TimeoutError:
            reply.outcome = "timeout"
        except Broken as error:
            reply.outcome, reply.detail = error.kind, error.detail
        except httpx2.ReadTimeout:
            reply.outcome = "stalled"
        except _NOBODY as error:
            reply.outcome, reply.detail = "no_connection", one_line(error) or type(error).__name__
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            reply.outcome, reply.detail = "cut_off", one_line(error) or type(error).__name__
        except asyncio.CancelledError:
            reply.outcome = "interrupted"
            raise
        finally:
            reply.ended = reply.ended or time.perf_counter()

    async def _stream(self, path: str, body: dict[str, Any], reply: Reply, said: list[str] | None) -> None:
        async with self._http.stream("POST", f"{self.address}{path}", json=body) as response:
            if response.status_code != 200:
                told = message_in(await _bounded(response, REFUSAL_BYTES, cut=True), self._key)
                raise Broken(status_kind(response.status_code), f"{response.status_code} {told}".strip())
            kind = response.headers.get("content-type", "")
            if not kind.lower().startswith("text/event-stream"):
                raise Broken("wrong_type", f"its content type is {one_line(kind, 80) or 'missing'}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Broken("wrong_type", "it is compressed, which was not asked for")
            reader = EventReader(BODY_BYTES + BYTES_PER_TOKEN * reply.wanted_output)
            done, pieces = False, response.aiter_raw()
            async for piece in pieces:
                now = time.perf_counter()
                for data in reader.feed(piece):
                    done = done or data == END
                    if not done:
                        event = event_of(data, self._key)
                        reply.take(event, now)
                        if said is not None:
                            said.append(event.words)
                if done:  # whether or not the server ends its body, the answer is whole
                    reply.ended = now
                    await _drained(pieces)
                    break
            if (reader.rest() and not done) or not (done or reply.finish):
                raise Broken("cut_off", "the stream ended inside an answer")
            if reply.first is None:
                raise Broken("no_token")


async def _drained(pieces: AsyncIterator[bytes]) -> None:
    """Read on to the end of a body, so that its connection can be used again, but not for long."""
    with contextlib.suppress(TimeoutError, httpx2.HTTPError, httpx2.StreamError):
        async with asyncio.timeout(REST_S):
            async for _ in pieces:
                pass


async def _bounded(response: httpx2.Response, most_bytes: int, cut: bool = False) -> bytes:
    """The body, of which more than `most_bytes` is an error, or cut off."""
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > most_bytes:
            if cut:
                return bytes(body[:most_bytes])
            raise BadInput(f"a server answers with more than {most_bytes:,} bytes to a question for its models")
    return bytes(body)


@asynccontextmanager
async def connected(address: str, time_limit_s: float, stall_s: float) -> AsyncIterator[Client]:
    """A client of the server at `address` (with /v1), with a connection for every request in flight."""
    key = api_key()
    headers = {**headers_with(key), "Accept-Encoding": "identity"}
    timeout = httpx2.Timeout(stall_s, connect=min(CONNECT_S, stall_s), pool=None)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    try:
        http = httpx2.AsyncClient(headers=headers, timeout=timeout, limits=limits, follow_redirects=False)
    except (httpx2.InvalidURL, ValueError) as error:
        raise BadInput(f"the address {address} cannot be used: {one_line(error)}") from error
    async with http:
        yield Client(address, time_limit_s, stall_s, http, key)
