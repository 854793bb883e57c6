"""Queries that nobody should send to the explorer's page, and what an answer to one must be."""

from __future__ import annotations

from urllib.parse import quote

NUMBERS = ("batch", "context", "chips", "max_chips", "isl", "osl", "max_ttft", "max_tpot", "min_throughput")
NO_NUMBERS = (
    "1e308",
    "1e999",
    "-0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "0x10",
    "1_000",
    "\u0663",
    "\uff11\uff16",
    "1;2",
    "1e",
    "e1",
    "--",
    ".",
    "9" * 400,
    "1.5.2",
    "NaN%",
    "0",
)
NAMES = ("view", "model", "models", "chip", "chips_from", "precision", "kv_precision", "memory", "engine", "price")
NO_NAMES = (
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x",
    "<script>alert(1)</script>",
    "a" * 300,
    "qwen3-8b\x00",
    "‮evil",
    "'; DROP TABLE",
    "${jndi:x}",
    "{{7*7}}",
    "file:///etc/passwd",
    "%00",
    "😀" * 20,
    "con",
    ".",
    "~",
)
EDITS = (
    "",
    "x",
    "=",
    ".=",
    "h100-sxm.=1",
    "h100-sxm.memory_bytes_per_s",
    "h100-sxm.memory_bytes_per_s=",
    "h100-sxm.memory_bytes_per_s=nan",
    "h100-sxm.memory_bytes_per_s=-1",
    "h100-sxm.memory_bytes_per_s=1e400",
    "h100-sxm.memory_bytes_per_s=1e308e",
    "h100-sxm.nothing=1",
    "nobody.memory_bytes=1",
    "h100-sxm.memory_bytes[=1",
    "__class__.__init__=1",
    "h100-sxm.memory_bytes_per_s=0",
    "../x.y=1",
    "h100-sxm.link_bytes_per_s[\n]=1",
)
WHOLE = (
    "&" * 5000,
    "=" * 10,
    "a",
    "view",
    "=",
    "view=model&view=model",
    "batch=1&batch=2",
    "nothing=1",
    "token=1&token=2x",
    "%ff%fe=1",
    "batch=%ff",
    "batch=%",
    "batch=%zz",
    "batch=%00",
    "x" * 100_000,
    "&".join("batch=1" for _ in range(100)),
    "&".join(f"set=h100-sxm.idle_w={number}" for number in range(40)),
    "set=" + "a" * 3000,
    "model[]=qwen3-8b",
    "chips_from=",
    "chips_from=,,,",
    "chips_from=" + ",".join(["h100-sxm", "b200", "l4", "l40s", "tpu-v6e", "tpu-v7", "h20"]),
    "models=",
    "view=front&max_chips=256&model=deepseek-v3",
    "view=%3Csvg%20onload%3D1%3E",
    "batch=1%0d%0aX-Evil:1",
    "view=model;batch=1",
    "model=qwen3-8b%26batch%3D1",
    "VIEW=model",
    "__proto__=1",
    "constructor=1",
    "view=chips&isl=16777216",
    "context=16777216",
    "model=gpt2&context=2000",
)


def hostile_queries() -> list[str]:
    """About 300 query strings, each of which is a mistake."""
    found = list(WHOLE)
    found += [f"{name}={quote(text)}" for name in NUMBERS for text in NO_NUMBERS]
    found += [f"{name}={quote(text)}" for name in NAMES for text in NO_NAMES]
    found += [f"set={quote(text)}" for text in EDITS]
    return found


def is_sentence(text: object) -> bool:
    """Whether an error is one line that a person can read."""
    return isinstance(text, str) and 10 < len(text) < 1000 and text.isprintable() and "Traceback" not in text
