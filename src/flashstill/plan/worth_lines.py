"""What a search found a draft to be worth, as a line of text."""

from __future__ import annotations

from collections.abc import Mapping

from flashstill.units import show

_WORTH = {
    "tpot_s": ("time per token", "s"), "tokens_per_s_per_chip": ("tokens/s a chip", ""),
    "joules_per_output_token": ("energy per token", "J"), "usd_per_million_output_tokens": ("a million tokens", "USD"),
}  # fmt: skip


def worth_lines(drafting: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Best value of each objective with the draft and without it."""
    told = []
    for name, values in drafting.items():
        drafted, plain = values["with"], values["without"]
        if drafted and plain and name in _WORTH:
            what, unit = _WORTH[name]
            best = [show(each, unit) if unit else f"{each:,.0f}" for each in (drafted, plain)]
            told.append(f"{what} {best[0]} with, {best[1]} without ({drafted / plain:.2f} x)")
    return [f"the best with the draft and without it: {'; '.join(told)}"] if told else []
