"""The command lines that print the numbers of a state: each view names the command that its figures come from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashstill.explore.state import State, written
from flashstill.facts import load
from flashstill.hardware.idle_edits import idle_edits
from flashstill.plan.deployment import AS_PUBLISHED


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What the command that started the page was given of facts: directories, and edits under those of the page."""

    directories: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()


def explain_words(given: Given, state: State, **other: Any) -> list[str]:
    """`explain` of the state's decode step; other: options that differ from the state's, None to leave one out."""
    asked = {
        "model": state.model, "chip": state.chip, "batch": state.batch, "context": state.context,
        "chips": state.chips, "memory": state.memory, **_formats(state), **other,
    }  # fmt: skip
    return _words("explain", asked, given, state)


def predict_words(given: Given, state: State, **other: Any) -> list[str]:
    """`predict` of serving the state's requests."""
    asked = {
        "model": state.model, "chip": state.chip, "isl": state.isl, "osl": state.osl, "concurrency": state.batch,
        "chips": state.chips, "weights_in": state.memory, "kv_in": state.memory, **_formats(state), **other,
    }  # fmt: skip
    return _words("predict", asked, given, state)


def plan_words(given: Given, state: State, **other: Any) -> list[str]:
    """`plan`: the search of the state's front."""
    asked = {
        "model": state.model, "chips_from": state.chips_from, "max_chips": state.max_chips, "isl": state.isl,
        "osl": state.osl, "tiers": state.memory, "max_ttft": state.max_ttft, "max_tpot": state.max_tpot,
        "min_throughput": state.min_throughput, **_formats(state), **other,
    }  # fmt: skip
    return _words("plan", asked, given, state)


def codesign_words(given: Given, state: State) -> list[str]:
    """`codesign`: the elasticities of the state's chip, without doublings."""
    asked = {
        "model": state.model, "chip": state.chip, "max_chips": state.max_chips, "isl": state.isl, "osl": state.osl,
        "tiers": state.memory, "max_ttft": state.max_ttft, "max_tpot": state.max_tpot,
        "min_throughput": state.min_throughput, **_formats(state),
    }  # fmt: skip
    command, *words = _words("codesign", asked, given, state)
    return [command, "--no-doubling", *words]


def chip_words(given: Given, state: State, chip: str) -> list[str]:
    """`chips`: every number of one chip with its source."""
    return ["chips", chip, *_facts_words(given, state)]


def command_line(*commands: Sequence[str]) -> str:
    """Commands as a shell takes them, one a line."""
    return "\n".join(shlex.join(["flashstill", *words]) for words in commands)


def _formats(state: State) -> dict[str, Any]:
    return {
        "precision": None if state.precision == AS_PUBLISHED else state.precision,
        "kv_precision": state.kv_precision,
        "engine": state.engine,
        "price": state.price,
    }


def _words(command: str, asked: Mapping[str, Any], given: Given, state: State) -> list[str]:
    words = [command]
    for name, value in asked.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", written(value)]
    return [*words, *_facts_words(given, state, asked.get("chip") or asked.get("chips_from"))]


def _facts_words(given: Given, state: State, chips: str | Sequence[str] | None = None) -> list[str]:
    """chips: those that are asked about, whose command refuses the edits of others; None where any may matter."""
    words: list[str] = []
    for directory in given.directories:
        words += ["--facts", directory]
    edits: Sequence[str] = (*given.edits, *state.set)
    for edit in edits if not chips else _without_other_chips(given, edits, chips):
        words += ["--set", edit]
    return words


def _without_other_chips(given: Given, edits: Sequence[str], chips: str | Sequence[str]) -> Sequence[str]:
    if not edits:
        return edits
    facts = load([Path(directory) for directory in given.directories if Path(directory).is_dir()])
    asked = [chips] if isinstance(chips, str) else chips
    return [edit for edit in edits if not any(idle_edits(facts, facts.edited([edit]).edits, asked))]
