"""Random states of the explorer's page, and what the command line prints for them."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shlex
from typing import Any
from urllib.parse import urlencode

from flashstill.cli import main
from flashstill.explore.answers import Answers
from flashstill.explore.starting import answers_of

MODELS = ("qwen3-0.6b", "qwen3-8b", "llama-3.1-70b", "deepseek-v3", "gpt-oss-120b", "qwen3-next-80b-a3b", "gemma-3-27b",
          "mixtral-8x7b", "kimi-linear-48b-a3b", "minimax-m2")  # fmt: skip
CHIPS = ("h100-sxm", "h200-sxm", "b200", "tpu-v5e", "tpu-v6e", "mi300x", "gaudi3", "groq-lpu", "wse-3", "trainium2")
EDITS = ("memory_bytes_per_s", "memory_bytes", "idle_w", "link_bytes_per_s", "usd_per_hour")
VIEWS = ("model", "chips", "front", "numbers", "placement", "byte")


def answers() -> Answers:
    """What a page answers that is started without options."""
    return answers_of()


def random_query(chance: random.Random, view: str, catalogue: Any) -> str:
    """A state of a view, most of which some deployment can do."""
    chips = chance.sample(CHIPS, 2 if view in ("front", "placement") else 3)
    values: list[tuple[str, str]] = [
        ("view", view),
        ("model", chance.choice(MODELS)),
        ("models", ",".join(chance.sample(MODELS, 2))),
        ("chip", chips[0]),
        ("chips_from", ",".join(chips)),
        ("batch", str(chance.choice((1, 2, 7, 16, 33, 128)))),
        ("context", str(chance.choice((1, 100, 1024, 4097, 8000)))),
        ("isl", str(chance.choice((1, 100, 1024, 3000)))),
        ("osl", str(chance.choice((1, 2, 100, 1024)))),
        ("max_chips", str(chance.choice((1, 4, 8, 16)))),
        ("price", chance.choice(("rented", "owned", "list"))),
    ]
    if chance.random() < 0.4:
        values.append(("precision", chance.choice(("fp8", "bf16", "int8", "fp4"))))
    if chance.random() < 0.3:
        values.append(("kv_precision", chance.choice(("fp8", "bf16"))))
    if chance.random() < 0.3:
        values.append(("chips", str(chance.choice((8, 16, 64)))))
    if view in ("front", "numbers") and chance.random() < 0.5:
        values.append(("max_ttft", repr(10 ** chance.uniform(-1, 2))))
    if chance.random() < 0.2:
        values.append(("engine", chance.choice(("vllm", "sglang", "trtllm", "none"))))
    if chance.random() < 0.2:
        values.append(("memory", chance.choice(("memory", "sram", "host"))))
    if view in ("front", "numbers") and chance.random() < 0.3:
        values.append(("min_throughput", repr(chance.uniform(1.0, 1000.0))))
    for chip in chips:
        rows = [row for row in catalogue.facts.of(chip) if row.quantity in EDITS]
        if rows and chance.random() < 0.5:
            row = chance.choice(rows)
            named = f"{chip}.{row.quantity}" + (f"[{row.condition}]" if row.condition else "")
            values.append(("set", f"{named}={row.value * chance.uniform(0.5, 2.0)!r}"))
    return urlencode(values)


def printed(command: str, *more: str) -> dict[str, Any]:
    """The JSON document of a command line; also where nothing is feasible. `{"error": sentence}` for bad input."""
    program, *words = shlex.split(command)
    assert program == "flashstill"
    words = [word for word in words if word != "--json"]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
        main([*words, *more, "--json"])
    text = out.getvalue()
    return json.loads(text) if text else {"error": err.getvalue().strip().removeprefix("flashstill: ")}


def row_of(document: dict[str, Any], chart: str, **values: Any) -> dict[str, Any]:
    """The row of a chart's table that has these values in some columns."""
    table = next(each["table"] for each in document["charts"] if each["name"] == chart)
    for row in table["rows"]:
        named = dict(zip(table["columns"], row, strict=True))
        if all(named[name] == value for name, value in values.items()):
            return named
    raise AssertionError(f"no row of {chart} has {values}")
