"""How the answers to a task are drawn, from its generation_kwargs, and which part of an answer is judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flashstill.distill.generate import Sampling
from flashstill.errors import BadInput, shown

USUAL_NEW_TOKENS = 256
"""new tokens if a task does not say"""
LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
THOUGHT = "think_end_token"
"""text that ends a thought: what is judged follows the last one, and stop strings count from there"""
KNOWN = (*LENGTH_NAMES, "until", "do_sample", "temperature", "top_p", "top_k", THOUGHT)
IGNORED = ("use_cache", "num_beams", "seed")


def behind(text: str, mark: str) -> str:
    """What follows the last `mark` of a text, without blanks before it; nothing if there is none, as the thought has
    not ended."""
    return text.rpartition(mark)[2].lstrip() if mark in text else ""


def thought_of(how: Mapping[str, Any]) -> str:
    """The text that ends a thought, from a task's generation_kwargs; empty if answers hold none."""
    mark = how.get(THOUGHT) or ""
    if not isinstance(mark, str):
        raise BadInput(f"a task's generation_kwargs have {THOUGHT}: {shown(mark)}; expected a text, as </think>")
    return mark


def settings_of(how: Mapping[str, Any], ends: tuple[int, ...], seed: int) -> tuple[Sampling, list[str]]:
    """How texts are drawn, from a task's generation_kwargs, and its stop strings; BadInput for what is not known."""
    for name in how:
        if name not in KNOWN and name not in IGNORED:
            raise BadInput(f"a task's generation_kwargs have {name!r}, which is not known; known: {', '.join(KNOWN)}")
    thought_of(how)
    until = how.get("until") or []
    if not isinstance(until, (str, list, tuple)):
        raise BadInput(f"a task's generation_kwargs have until: {shown(until)}; expected a text or a list of texts")
    stops = [until] if isinstance(until, str) else [str(each) for each in until]
    length = next((name for name in LENGTH_NAMES if how.get(name) is not None), LENGTH_NAMES[0])
    new_tokens = int(_number(how, length, USUAL_NEW_TOKENS, 1, 2**31))
    temperature = _number(how, "temperature", 0.0, 0, 1e6)
    if how.get("do_sample") is False:
        temperature = 0.0
    elif how.get("do_sample") and not temperature:
        temperature = 1.0 if how.get("temperature") is None else 0.0
    return Sampling(
        new_tokens=new_tokens, temperature=temperature, top_p=_number(how, "top_p", 1.0, 0, 1) or 1.0,
        top_k=int(_number(how, "top_k", 0, 0, 2**31)), stop=ends, seed=seed,
    ), stops  # fmt: skip


def _number(how: Mapping[str, Any], name: str, usual: float, low: float, high: float) -> float:
    """A number of a task's generation_kwargs, `usual` if it is not there; BadInput for another value."""
    value = how.get(name)
    if value is None:
        return usual
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not low <= number <= high:
        raise BadInput(
            f"a task's generation_kwargs have {name}: {shown(value)}; expected a number from {low} to {high:g}"
        )
    return number
