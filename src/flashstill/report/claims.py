"""What each kind of study claims, in one sentence, and whether its figures bear it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.verdicts import HOLDS, MISSED, NOT_SHOWN, verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A sentence; figures that must lie below zero, interval included, where the study set itself no minimum."""

    sentence: str
    below_zero: Sequence[str] = ()


CLAIMS = {
    "deep-think": Claim(
        sentence="A small student that learns from a teacher's many verified attempts answers better in one pass than"
        " the teacher does, and better than from unverified attempts"
    ),
    "classifiers": Claim(
        sentence="Soft targets carry what labels do not: a student learns most of what its teacher, or an ensemble,"
        " gained, a class it never saw, and nearly as much from a few per cent of the data"
    ),
    "kd-against-labels": Claim(
        sentence="A student that learns from its teacher's distribution comes nearer to it than the same student that"
        " learns from the text",
        below_zero=(
            "KL to the teacher, held out: distilled less labels",
            "KL to the teacher, other domain: distilled less labels",
        ),
    ),
    "kd-by-passes": Claim(
        sentence="A small student comes very close to its teacher in many passes over the same text, as its teacher's"
        " distribution says more than labels, which wear out sooner"
    ),
    "kd-by-size": Claim(
        sentence="A teacher's distribution teaches a student to predict text better than the text does, at every size,"
        " and larger students gain no less"
    ),
    "moe-to-dense": Claim(
        sentence="A dense student keeps a good part of what a mixture of experts gains over a dense model of equal"
        " FLOPs a token"
    ),
    "rounding": Claim(
        sentence="Training with rounded weights wins back most of the loss that rounding to int4 or ternary weights"
        " costs"
    ),
    "soft-targets": Claim(
        sentence="A net that learns from a larger one's soft targets makes fewer errors than the same net that learns"
        " from labels, most of the way to the larger one"
    ),
}


def judged(kind: str, figures: Mapping[str, Mapping[str, Any]], seeds: int) -> tuple[str, bool | None]:
    """The claim of a kind of study with its verdict, and whether it holds; None where nothing was there to judge by.

    A study holds if the intervals of all its figures lie above the claimed minimums, or all figures that must be below
    zero are, with their intervals. It does not hold if all lie on the other side; what an interval leaves open is not
    shown. A kind without a claim here is judged by its minimums alone.
    """
    claim = CLAIMS.get(kind)
    tests = _tests(claim, figures)
    sentence = f"The study claims: {claim.sentence}." if claim else "The study set itself minimums."
    over = f"over {seeds} seed{'s' if seeds != 1 else ''}"
    if not tests:
        return f"{sentence} Nothing was measured that decides it.", None
    by = {each: [words for words, found in tests if found == each] for each in (HOLDS, MISSED, NOT_SHOWN)}
    if len(by[HOLDS]) == len(tests):
        return f"{sentence} It holds {over}: {_and(by[HOLDS])}.", True
    if len(by[MISSED]) == len(tests):
        return f"{sentence} It does not hold {over}: {_and(by[MISSED])}.", False
    short = [
        f"{words} is {_and(by[each])}" for each, words in ((MISSED, "missed"), (NOT_SHOWN, "not shown")) if by[each]
    ]
    of = f", of {len(tests)} figures that decide" if len(tests) > 1 else ""
    beginning = f"It holds in part {over}" if by[HOLDS] else f"It is not shown {over}"
    return f"{sentence} {beginning}: {'; '.join(short)}{of}.", False


def _tests(claim: Claim | None, figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Each figure that decides, in words, and its verdict."""
    tests = [
        (f"{_named(name, figure)} (at least {figure['bar']:g})", verdict(figure, figures))
        for name, figure in figures.items()
        if figure.get("bar") is not None
    ]
    if tests or claim is None:
        return tests
    for name in claim.below_zero:
        figure = figures.get(name)
        if figure is not None and figure["value"] is not None:
            words = f"{_named(name, figure)} (must be below zero with its interval)"
            tests.append((words, _below_zero(figure)))
    return tests


def _below_zero(figure: Mapping[str, Any]) -> str:
    if figure["high"] is None:
        return NOT_SHOWN
    return HOLDS if figure["high"] < 0.0 else MISSED if figure["low"] >= 0.0 else NOT_SHOWN


def _named(name: str, figure: Mapping[str, Any]) -> str:
    """A figure with its interval, in words."""
    reach = "" if figure["low"] is None else f", {_number(figure['low'])} to {_number(figure['high'])}"
    return f"{name.replace('_', ' ')} {_number(figure['value'])}{reach}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{'; '.join(words[:-1])}; and {words[-1]}"
