"""What all clients of inference servers share: the key, the message of an error, and the list of served models.

The API key is read from an environment variable and sent only as a header; it is never written to a recipe, file or
message.
"""

from __future__ import annotations

import json
import os
from typing import Any

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


def served_models(base: str, body: bytes) -> dict[str, Any]:
    """Served model -> its context length in tokens as the server says it (None if it does not), from GET /models."""
    try:
        return {card["id"]: card.get("max_model_len") for card in json.loads(body)["data"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{base} lists no models at /models; give the address up to /v1") from error


def listed(models: dict[str, Any]) -> str:
    """Names of served models for a sentence."""
    return ", ".join(one_line(name) for name in list(models)[:8]) or "none"
