"""One message of a conversation, as chat templates read it, from the ways in which data files write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flashstill.bounded import lone_surrogate
from flashstill.distill.data.left_out import THOUGHTS
from flashstill.distill.data.rows import Unusable

ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "model": "assistant", "bing": "assistant", "bard": "assistant", "system": "system", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function_call": "assistant",
}  # fmt: skip
"""role of each sender of ShareGPT"""
SAID = ("tool_calls", *THOUGHTS)
"""what a message without content may hold instead"""


def message_of(raw: Any, place: int) -> dict[str, Any]:
    """A message as chat templates read it; Unusable if it has no role, or content other than text."""
    if not isinstance(raw, Mapping):
        raise Unusable(f"has a message {place} that is no object", "has a message that is no object")
    sender = raw.get("role", raw.get("from"))
    if not isinstance(sender, str) or not sender:
        raise Unusable(f'has no "role" in message {place}', 'has no "role" in a message')
    if "role" not in raw and sender.lower() not in ROLES:
        raise Unusable(
            f"has a message {place} from {sender[:40]!r}, no known sender", "has a message of an unknown sender"
        )
    message = {key: value for key, value in raw.items() if key not in ("from", "value") and value is not None}
    message["role"] = ROLES.get(sender.lower(), sender)
    content = raw.get("content", raw.get("value"))
    if sender == "function_call":
        message |= {"content": "", "tool_calls": _calls(decoded(content), place)}
        return message
    message["content"] = _content(content, message, place)
    if message.get("tool_calls"):
        message["tool_calls"] = _calls(decoded(message["tool_calls"]), place)
    return message


def _content(content: Any, message: Mapping[str, Any], place: int) -> str:
    """The text of a message; parts of text are joined."""
    if content is None and any(message.get(key) for key in SAID):
        return ""
    if isinstance(content, list):
        return "".join(_part(each, place) for each in content)
    if not isinstance(content, str):
        raise Unusable(f"has no text in message {place}", "has no text in a message")
    return valid(content)


def _part(part: Any, place: int) -> str:
    if isinstance(part, str):
        return valid(part)
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    if kind not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
        raise Unusable(
            f"holds a part of type {str(kind)[:40]!r} in message {place}, and only text is learned",
            "holds a part that is not text",
        )
    return valid(part["text"])


def _calls(calls: Any, place: int) -> list[Any]:
    """Calls of tools whose arguments are objects: templates write them as JSON, and would write a string twice."""
    made = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise Unusable(
                f"has a call of a tool without a name in message {place}", "has a call of a tool without a name"
            )
        arguments = decoded(function.get("arguments", {}))
        made.append({**call, "type": "function", "function": {**function, "arguments": arguments}})
    return made


def valid(text: str) -> str:
    """The text; Unusable if it has half a character, which UTF-8 cannot encode."""
    if (place := lone_surrogate(text)) is not None:
        kind = "holds text that is no valid Unicode"
        raise Unusable(f"{kind} (a lone surrogate at character {place})", kind)
    return text


def decoded(value: Any) -> Any:
    """A value, or what its JSON text says."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
