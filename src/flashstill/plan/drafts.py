"""Draft sources: a model by name, the model's own heads, or heads that would have to be trained for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from flashstill.arch import Architecture, load_architecture, with_heads
from flashstill.cost import Speculation
from flashstill.errors import BadInput, check_counts, shortened
from flashstill.plan.acceptance import NOT_MEASURED, accepted_rates

OWN_HEADS, NEW_HEADS = "heads", "new-heads"
"""drafting by heads that the model has, and by heads that would have to be trained"""
MOST_DRAFTED = 1000
"""most drafted tokens per step; today's engines draft up to a few dozen"""


RATES, MEASURED = ("acceptance", "acceptance_decay"), "measured_acceptance"
OF_DRAFTS = ("draft_tokens", *RATES, MEASURED)
"""fields of a scenario that say nothing without a draft; a rate and its decay, or rates by position in their place"""


def given_rates(
    given: Mapping[str, Any], drafts: bool, spelled: Mapping[str, str] | None = None, draft: str = "draft"
) -> dict[str, Any]:
    """The fields that are given, and the rate among them in place of records in the draft's directory.

    drafts: whether anything drafts.  spelled, draft: what the fields are called, as in {"draft_tokens":
    "--draft-tokens"}.  BadInput for a field without effect: one of drafts where nothing drafts, or a rate or its decay
    beside rates by position.
    """
    names = {name: (spelled or {}).get(name, name) for name in OF_DRAFTS if name in given}
    if names and not drafts:
        raise BadInput(f"{next(iter(names.values()))} is of speculative decoding; say with {draft} what drafts")
    rate = next((name for name in RATES if name in given), None)
    if rate is None:
        return dict(given)
    if given.get(MEASURED) not in (None, NOT_MEASURED):
        measured = (spelled or {}).get(MEASURED, MEASURED)
        raise BadInput(f"{names[rate]} has no place beside the acceptance by position of {measured}; give one of them")
    return {**given, MEASURED: NOT_MEASURED}


def drafter(name: str) -> str:
    """The draft source: a model name unchanged, or one of the keywords above in any case."""
    return name.lower() if name.lower() in (OWN_HEADS, NEW_HEADS) else name


def check_drafted(tokens: int) -> None:
    """BadInput for a number of drafted tokens that no engine has."""
    check_counts({"draft tokens": tokens})
    if tokens > MOST_DRAFTED:
        raise BadInput(f"draft tokens must be at most {MOST_DRAFTED}, not {shortened(str(tokens))}")


class Drafting(NamedTuple):
    """Speculation, and where its acceptance comes from, in words; empty if it was assumed."""

    speculation: Speculation
    note: str


def drafting_of(
    model: Architecture,
    draft: str,
    tokens: int,
    acceptance: float,
    decay: float = 1.0,
    measured: str | None = None,
) -> Drafting:
    """As `speculation`, with the acceptance that was measured where there is one (plan/acceptance.py)."""
    plain = speculation(model, draft, tokens, acceptance, decay)
    rates, note = accepted_rates(measured, draft, model, plain.draft)
    if not rates:
        return Drafting(plain, "")
    if tokens > len(rates):
        raise BadInput(
            f"{tokens} draft tokens are more than the {len(rates)} positions at which acceptance was measured; draft"
            f" {len(rates)} or fewer"
        )
    return Drafting(replace(plain, acceptance=rates[0], decay=1.0, measured=rates), note)


def speculation(model: Architecture, draft: str, tokens: int, acceptance: float, decay: float = 1.0) -> Speculation:
    """Drafting by the model of that name, by the model's own heads, or by heads still to be trained.

    BadInput if draft and model do not match, as with different vocabularies.
    """
    check_drafted(tokens)
    if not 0.0 < acceptance < 1.0:
        raise BadInput(f"acceptance must lie between 0 and 1, not {acceptance}")
    if not 0.0 < decay <= 1.0:
        raise BadInput(f"acceptance_decay must be above 0 and at most 1, not {decay}")
    draft = drafter(draft)
    if draft == NEW_HEADS or (draft == OWN_HEADS and model.mtp_layers):
        return Speculation(tokens=tokens, acceptance=acceptance, decay=decay)
    if draft == OWN_HEADS:
        raise BadInput(
            f"{model.name} has no heads that predict further tokens, as {', '.join(with_heads())} have; name a small "
            f"model that drafts, or {NEW_HEADS} for heads that would have to be trained"
        )
    small = load_architecture(draft)
    if small.shares_ends and small.width != model.width:
        raise BadInput(
            f"{small.name} is a head on hidden states {small.width} wide, and cannot draft for {model.name}, whose are"
            f" {model.width} wide"
        )
    if small.vocabulary != model.vocabulary:
        raise BadInput(
            f"{small.name} cannot draft for {model.name}: vocabularies of {small.vocabulary} and {model.vocabulary}"
        )
    return Speculation(tokens=tokens, acceptance=acceptance, decay=decay, draft=small)
