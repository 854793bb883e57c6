"""Serving engines: supported chips, command options, chips per node and model sources; rows in engines.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from flashstill.arch import hub_id
from flashstill.arch.config_file import existing
from flashstill.errors import BadInput, shortened, unknown

ENGINES = ("vllm", "sglang", "trtllm")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


@cache
def _rows() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("engines.toml").read_text(encoding="utf-8"))


def options_of(engine: str) -> frozenset[str]:
    """All options that this engine's launch command may have."""
    return frozenset(_rows()[engine]["options"])


def version_of(engine: str) -> str:
    """The engine version whose argument checks these rules follow."""
    return str(_rows()[engine]["version"])


def serving_row(engine: str, quantity: str) -> int:
    """What `serve` knows of an engine's own settings: block_tokens, step_tokens, spare_percent."""
    return int(_rows()["serving"][engine][quantity])


def step_tokens_of(chip: str, is_low_latency: bool) -> tuple[int, int]:
    """Tokens of a step that vLLM takes by default on a chip, and on the largest ones. is_low_latency: with the
    exchange of experts of that name."""
    rows = _rows()["vllm"]["step_tokens"]
    own = "low_latency" if is_low_latency else "small" if chip in rows["small_chips"] else "default"
    return int(rows[own]), int(rows["default"])


def spare_ratio(engine: str) -> float:
    """Share of the cache's blocks that must be free for an engine to take prompts in; 0 where none is known."""
    return float(_rows()["serving"].get(engine, {}).get("spare_percent", 0)) / 100.0


def container_of(maker: str) -> dict[str, Any] | None:
    """How containers get chips of a maker (resource, compose, images, by_chip); None if no row says."""
    found = _rows()["containers"].get(maker)
    return None if found is None else dict(found)


def router_of(engine: str) -> dict[str, Any]:
    """The router in front of the engine's pools: words, package, image."""
    return dict(_rows()["routers"][engine])


def plugin_of(engine: str, chip: str) -> str:
    """The plug-in package that the engine needs on the chip; empty if it needs none."""
    return str(_rows()[engine].get("plugins", {}).get(chip, ""))


def chips_of_a_node(chip: str) -> int:
    """Number of these chips in one host; BadInput if no row says."""
    nodes = _rows()["nodes"]
    if chip in nodes or chip in nodes["guessed"]:
        return int(nodes.get(chip, nodes["guessed"].get(chip)))
    raise BadInput(f"no row of engines.toml says how many {chip} one host has, so that no command can be written")


def is_node_guessed(chip: str) -> bool:
    """Whether the number of chips per host is a guess, because servers differ."""
    return chip in _rows()["nodes"]["guessed"]


def check_engine(engine: str, chips: Sequence[str]) -> None:
    """BadInput if the engine does not run on one of the chips; names the engines that do."""
    if engine not in ENGINES:
        raise BadInput(unknown("engine", engine, ENGINES))
    for chip in chips:
        able = [each for each in ENGINES if chip in _rows()[each]["chips"] or plugin_of(each, chip)]
        if engine not in able:
            others = f"engines that do: {', '.join(able)}" if able else "none of the engines known here does"
            raise BadInput(f"{engine} does not run on {chip}; {others}")


def model_source(model: str) -> str:
    """What the engine loads: a Hugging Face id, or a checkpoint directory. BadInput for a model without weights."""
    repository, path = hub_id(model), existing(model)
    if path is None and _HUB_ID.fullmatch(repository) and not repository.endswith(".json"):
        return repository
    if path is not None and path.is_dir() and (path / "config.json").is_file():
        return str(path)
    raise BadInput(
        f"an engine cannot load {shortened(model)!r}, which names no published weights; leave out --emit, or give a"
        " Hugging Face id (owner/name) or a model directory"
    )
