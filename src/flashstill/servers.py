"""What all clients of inference servers share: the key, the message of an error, and the list of served models.

The API key is read from an environment variable and sent only as a header; it is never written to a recipe, file or
message.
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from flashstill.errors import BadInput, one_line

KEY_VARIABLE = "FLASHSTILL_API_KEY"
LISTING_BYTES = 4 * 2**20
"""the most that is read of a server's list of models"""


def api_key() -> str:
    """The user's key, empty if there is none; BadInput if no header can carry it."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise BadInput(f"the key in {KEY_VARIABLE} holds characters that no HTTP header can carry")
    return key


def headers_with(key: str) -> dict[str, str]:
    """The headers of every request."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def message_in(body: bytes, key: str = "") -> str:
    """The error message of a response, from whichever field holds it, with the key masked: some servers echo it."""
    try:
        answer = json.loads(body)
        error = answer.get("error", answer)
        message = one_line(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        message = one_line(body.decode("utf-8", "replace"))
    return message.replace(key, "***") if key else message


def wrong_address(address: str) -> str:
    """What is wrong with the address of a server, as the end of a sentence that begins with it; empty if nothing is."""
    usual = "write its address as http://127.0.0.1:8000/v1"
    try:
        url = urlsplit(address)
        port = url.port  # raises for one that is no number up to 65,535
    except ValueError as error:
        brackets = ", an IPv6 address in brackets" if address.count(":") > 2 else ""
        return f"is no address ({one_line(error)}); {usual}{brackets}"
    if url.scheme not in ("http", "https") or not url.hostname or port == 0:
        return f"is no address of a server; {usual}"
    if url.username is not None or url.password is not None:
        return f"has a user or a password, which would stand in all results; put a key into {KEY_VARIABLE} instead"
    return ""


def proxy_of(address: str) -> str:
    """Host and port of the proxy that the environment puts before an address (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY,
    NO_PROXY); empty if none."""
    url, proxies = urlsplit(address), getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass(url.hostname or ""):
        return ""
    return one_line(proxy.rpartition("@")[2].partition("://")[2] or proxy.rpartition("@")[2], 80).rstrip("/")


def served_models(base: str, body: bytes) -> dict[str, Any]:
    """Served model -> its context length in tokens as the server says it (None if it does not), from GET /models."""
    try:
        return {card["id"]: card.get("max_model_len") for card in json.loads(body)["data"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{base} lists no models at /models; give the address up to /v1") from error


def listed(models: dict[str, Any]) -> str:
    """Names of served models for a sentence."""
    return ", ".join(one_line(name) for name in list(models)[:8]) or "none"
