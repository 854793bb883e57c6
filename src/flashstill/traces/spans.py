"""The requests among OpenTelemetry's spans: whole OTLP exports in JSON, or spans one by one.

    export    {"resourceSpans": [{"scopeSpans": [{"spans": [...]}]}]}, one a line or one document; Tempo writes batches
    request   a span with counts of tokens, or one whose gen_ai.operation.name is of inference (opentelemetry.io,
              semantic conventions of generative AI); tools, agents, embeddings and all other spans are none
    once      a request that both a client and a server trace, or an agent that sums up its calls, has counts in a span
              and in one below it: the lowest counts
    failed    a span whose status is an error; one without counts that did not fail is told apart (reader.py)

Older names count as those of the conventions: vLLM's, OpenLLMetry's and OpenInference's.  Long texts (prompts) are not
kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flashstill.errors import BadInput

Tree = Mapping[str, Any]
INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
SAME = {
    "gen_ai.usage.prompt_tokens": INPUT, "gen_ai.usage.completion_tokens": OUTPUT,
    "llm.usage.prompt_tokens": INPUT, "llm.usage.completion_tokens": OUTPUT,
    "llm.token_count.prompt": INPUT, "llm.token_count.completion": OUTPUT,
}  # fmt: skip
OPERATION, INFERENCE = "gen_ai.operation.name", ("chat", "text_completion", "generate_content")
ERROR, ERROR_CODES = "error.type", (2, "2", "STATUS_CODE_ERROR")
RESOURCES, SCOPES = ("resourceSpans", "batches"), ("scopeSpans", "instrumentationLibrarySpans")
START = "startTimeUnixNano"
LONGEST_TEXT, MOST_REQUESTS, MOST_SPANS = 200, 1_000_000, 20_000_000
"""characters of a value that is kept; requests and spans of a file, whose names are held in memory"""


def is_export(tree: Tree) -> bool:
    """Whether a JSON object holds spans by resource."""
    return any(isinstance(tree.get(name), list) for name in RESOURCES)


def is_span(tree: Tree) -> bool:
    """Whether a JSON object is one span."""
    return START in tree and "attributes" in tree


def requests_in(shown: str, trees: Iterable[tuple[int, Tree]]) -> list[tuple[int, dict[str, Any]]]:
    """The spans that are requests, in the order of the file, each with the number of its tree.

    shown: names the file.  BadInput where none is, and for too many.
    """
    above: dict[str, str] = {}
    found: list[tuple[int, dict[str, Any]]] = []
    count = 0
    for number, tree in trees:
        for span in _spans(tree):
            count += 1
            name, parent = span.get("spanId"), span.get("parentSpanId")
            if isinstance(name, str) and isinstance(parent, str) and name and parent:
                above[name] = parent
            attributes = _attributes(span.get("attributes"))
            if _is_request(attributes):
                found.append((number, _slim(span, attributes)))
            if len(found) > MOST_REQUESTS or count > MOST_SPANS:
                raise BadInput(f"{shown} has over {MOST_REQUESTS:,} requests or {MOST_SPANS:,} spans; take a part")
    if not found:
        raise BadInput(f"{shown} has {count:,} spans, and none is a request to a model: they need {INPUT} and {OUTPUT}")
    summed = _summed(found, above)
    return [(number, span) for number, span in found if span.get("spanId") not in summed]


def columns_of(requests: Iterable[tuple[int, Tree]]) -> tuple[str, ...]:
    """Names of the spans' values, those of attributes with what stands before them."""
    names: dict[str, None] = {}
    for _, span in requests:
        names |= dict.fromkeys(name for name in span if name != "attributes")
        names |= dict.fromkeys(f"attributes.{name}" for name in span["attributes"])
    wanted = (START, f"attributes.{INPUT}", f"attributes.{OUTPUT}")
    return tuple(dict.fromkeys((*wanted, *names)))


def _spans(tree: Tree) -> Iterator[Tree]:
    if not is_export(tree):
        yield tree
        return
    for name in RESOURCES:
        for resource in _objects(tree.get(name)):
            for scope in SCOPES:
                for each in _objects(resource.get(scope)):
                    yield from _objects(each.get("spans"))


def _objects(value: Any) -> Iterator[Tree]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())


def _attributes(listed: Any) -> dict[str, Any]:
    """Name -> value, of pairs as OTLP writes them or of an object; nested names are joined by dots."""
    plain: dict[Any, Any]
    if isinstance(listed, list):
        pairs = [(each.get("key"), each.get("value")) for each in _objects(listed)]
        plain = {key: next(iter(value.values())) for key, value in pairs if isinstance(value, dict) and len(value) == 1}
    else:
        plain = _flat(listed) if isinstance(listed, dict) else {}
    return {SAME.get(name, name): value for name, value in plain.items() if isinstance(name, str)}


def _flat(tree: Tree, before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def _is_request(attributes: Tree) -> bool:
    operation = attributes.get(OPERATION)
    if operation is not None:
        return operation in INFERENCE
    return INPUT in attributes or OUTPUT in attributes


def _slim(span: Tree, attributes: Tree) -> dict[str, Any]:
    """A span without long texts, its error among the attributes."""

    def short(tree: Tree) -> dict[str, Any]:
        return {
            name: value
            for name, value in tree.items()
            if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= LONGEST_TEXT)
        }

    status = span.get("status")
    kept = short(attributes)
    if isinstance(status, dict) and status.get("code") in ERROR_CODES:
        kept.setdefault(ERROR, "error")
    return {**short(span), "attributes": kept}


def _summed(found: Iterable[tuple[int, Tree]], above: Mapping[str, str]) -> set[str]:
    """Names of the spans above another one with counts of tokens."""
    names: set[str] = set()
    for _, span in found:
        if INPUT not in span["attributes"] and OUTPUT not in span["attributes"]:
            continue
        name = above.get(str(span.get("spanId")))
        while name is not None and name not in names:
            names.add(name)
            name = above.get(name)
    return names
