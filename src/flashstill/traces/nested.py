"""Values of nested records by names with dots, attributes of OpenTelemetry among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def value_at(values: Mapping[str, Any], name: str) -> Any:
    """The value of a name, or of one further down whose names are joined by dots; of a metric its value."""
    value = _below(values, name)
    if isinstance(value, Mapping) and "value" in value:
        return value["value"]
    return value


def _below(values: Any, name: str) -> Any:
    """The value of a name whose dots may be levels or its own, as in attributes["gen_ai.usage.input_tokens"]."""
    values = _by_key(values) if isinstance(values, list) else values
    if not isinstance(values, Mapping):
        return None
    value = values.get(name)
    at = name.find(".")
    while value is None and at >= 0:
        value = _below(values.get(name[:at]), name[at + 1 :])
        at = name.find(".", at + 1)
    return value


def _by_key(listed: list[Any]) -> dict[str, Any]:
    """Attributes as OTLP has them in JSON, {"key": name, "value": {"intValue": "12"}} each: name -> value."""
    pairs = [(each.get("key"), each.get("value")) for each in listed if isinstance(each, Mapping)]
    return {
        key: next(iter(value.values()))
        for key, value in pairs
        if isinstance(key, str) and isinstance(value, Mapping) and len(value) == 1
    }
