"""HTTP client for an inference server: concurrent requests with a time limit, and retries with growing waits.

Permanent failures become a one-sentence BadInput.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2

from flashstill.distill.teachers.served.questions import APIS, Api
from flashstill.errors import BadInput, one_line, unknown
from flashstill.servers import KEY_VARIABLE, LISTING_BYTES, api_key, headers_with, listed, message_in, served_models

WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""wait before each retry"""
LONGEST_WAIT_S = 120.0
CONNECT_S = 10.0
_BUSY = {408, 409, 425, 429}
_NOBODY = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.InvalidURL)
_TOO_MANY = ("max allowed", "greater than", "exceed", "at most")

Note = Callable[[str], None]


def completed(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to completion; if several of its tasks fail, raise only the first error."""
    try:
        asyncio.run(work)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def together(places: Iterator[int], in_flight: int, one: Callable[[int], Awaitable[None]]) -> None:
    """Await `one(place)` for every place, at most `in_flight` at a time."""

    async def some() -> None:
        for place in places:
            await one(place)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(some())


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A served teacher. base: URL up to and including /v1; name: the served model; api: a key of `questions.APIS`.

    in_flight: number of concurrent requests; time_limit_s: seconds per request.
    """

    base: str
    name: str
    api: str = "vllm"
    in_flight: int = 8
    time_limit_s: float = 300.0

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise BadInput(unknown("api of a server", self.api, APIS))

    @property
    def asking(self) -> Api:
        """The implementation of the server's API."""
        return APIS[self.api]

    @property
    def address(self) -> str:
        """`base` without a trailing slash."""
        return self.base.rstrip("/")


SHARDS_KEPT, STEPS_KEPT = "its finished shards are kept", "the training is kept up to its last checkpoint"
"""of what is stored as it is answered, and of servers that are asked during training, of whose answers nothing is"""


class Conversation:
    """A client session with a server, used with `async with`."""

    def __init__(self, server: Server, note: Note, kept: str) -> None:
        """kept: what remains of the work if the server keeps failing, as a part of a sentence."""
        self.server, self._note, self._kept, self._key = server, note, kept, api_key()
        self._client = httpx2.AsyncClient(
            headers=headers_with(self._key),
            timeout=httpx2.Timeout(None, connect=CONNECT_S),
            limits=httpx2.Limits(max_connections=server.in_flight, max_keepalive_connections=server.in_flight),
        )

    async def __aenter__(self) -> Conversation:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._client.__aexit__(*raised)

    async def longest(self) -> int | None:
        """The model's context length in tokens, None if the server does not state it.

        Raises BadInput if the server does not respond or does not serve this model.
        """
        base, name = self.server.base, self.server.name
        url = f"{self.server.address}/models"
        status, body = await self._patiently("GET", url, None, LISTING_BYTES, is_first=True)
        if status != 200:
            raise BadInput(self._refused(status, body, 0))
        cards = served_models(base, body)
        if name not in cards:
            raise BadInput(f"{base} serves no model {name!r}; it serves {listed(cards)}")
        longest = cards[name]
        return longest if isinstance(longest, int) else None

    async def ask(self, question: dict[str, Any], k: int, most_bytes: int) -> Any:
        """The parsed JSON response to a request for k log-probabilities.

        Raises BadInput if the server refuses, keeps failing, or sends more than `most_bytes`.
        """
        return await self._asked(self.server.asking.path(self.server.address), question, k, most_bytes)

    async def completions(self, question: dict[str, Any], most_bytes: int) -> Any:
        """The parsed JSON response to a request for generated text; raises BadInput like `ask`."""
        return await self._asked(f"{self.server.address}/completions", question, 0, most_bytes)

    async def operate(self, path: str, body: dict[str, Any] | None) -> tuple[int, str]:
        """Status and message of a request to a route of the server itself, outside of /v1."""
        status, answer = await self._patiently("POST", f"{self.server.address.removesuffix('/v1')}{path}", body, 2**20)
        return status, self._said(answer)

    async def _asked(self, url: str, question: dict[str, Any], k: int, most_bytes: int) -> Any:
        status, body = await self._patiently("POST", url, question, most_bytes)
        if status != 200:
            raise BadInput(self._refused(status, body, k))
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"the teacher at {self.server.base} answers with something else than JSON") from error

    async def _patiently(
        self, method: str, url: str, question: dict[str, Any] | None, most_bytes: int, is_first: bool = False
    ) -> tuple[int, bytes]:
        """Status and body of a request, with retries while the server is busy or failing.

        is_first: do not retry if no connection can be made.
        """
        why = ""
        for wait_s in (*WAITS_S, None):
            asked_to_wait_s = 0.0
            try:
                status, body, asked_to_wait_s = await self._once(method, url, question, most_bytes)
                if status not in _BUSY and status < 500:
                    return status, body
                why = f"{status} {self._said(body)}".strip()
            except TimeoutError:
                why = f"no answer in {self.server.time_limit_s:g} s"
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                why = one_line(error) or type(error).__name__
                if is_first and isinstance(error, _NOBODY):
                    base = self.server.base
                    raise BadInput(f"no server answers at {base} ({why}); start it, or mend its address") from error
            if wait_s is not None:
                pause_s = max(asked_to_wait_s, wait_s * random.uniform(0.5, 1.0))
                self._note(f"{why}; again in {pause_s:.0f} s")
                await asyncio.sleep(pause_s)
        raise BadInput(
            f"the server at {self.server.base} failed {len(WAITS_S) + 1} times ({why}); {self._kept}, run the same"
            " command again to go on"
        )

    async def _once(
        self, method: str, url: str, question: dict[str, Any] | None, most_bytes: int
    ) -> tuple[int, bytes, float]:
        """Send a request once; returns status, body and the seconds to wait from the Retry-After header (0 if none)."""
        async with (
            asyncio.timeout(self.server.time_limit_s),
            self._client.stream(method, url, json=question) as response,
        ):
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > most_bytes:
                    raise BadInput(f"the teacher at {self.server.base} answers with more than {most_bytes:,} bytes")
            later = response.headers.get("retry-after", "")
            wait_s = min(float(later), LONGEST_WAIT_S) if later.isascii() and later.isdecimal() else 0.0
            return response.status_code, bytes(body), wait_s

    def _said(self, body: bytes) -> str:
        return message_in(body, self._key)

    def _refused(self, status: int, body: bytes, k: int) -> str:
        """A one-sentence error message for a status that a retry would not change."""
        base, message = self.server.base, self._said(body)
        if status in (401, 403):
            which = "another" if self._key else "one"
            return f"the teacher at {base} asks for a key ({status}); put {which} into {KEY_VARIABLE}"
        if status == 404:
            return f"there is nothing to ask at {base} (404 {message}); give the address up to /v1"
        if k and "logprobs" in message and any(sign in message for sign in _TOO_MANY):
            return (
                f"the teacher at {base} gives fewer than {k} log-probabilities ({message}); start it with vllm serve"
                f" ... --max-logprobs {k}, or lower signals.k"
            )
        if status == 400 and "out of vocabulary" in message:
            return (
                f"{self.server.name} at {base} has another tokenizer than teachers.tokenizer: it knows fewer ids"
                f" ({message})"
            )
        if 300 <= status < 400:
            return f"{base} sends on to another address ({status}); give that one as teachers.model"
        return f"the teacher at {base} refuses to answer ({status} {message})"
