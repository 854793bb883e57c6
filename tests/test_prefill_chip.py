"""Prefill instances on another kind of chip, in a simulation asked for by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import flashstill as fs
from flashstill.economics import hourly_price
from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import resolve
from flashstill.plan.scenario import Scenario
from flashstill.simulate.apart import check_pair
from tests.commands import refuse

ASKED: dict[str, Any] = {
    "model": "llama-3.1-8b", "chip": "h100-sxm", "rate": 4.0, "requests": 60, "isl": 800, "osl": 40,
}  # fmt: skip


def test_the_same_chip_by_its_name_is_the_same_fleet() -> None:
    """But for its transfers: pools of one chip may lie in one domain of fast links."""
    plain = fs.simulate(**ASKED, prefill_chips=1, prefill_replicas=2)
    named = fs.simulate(**ASKED, prefill_chips=1, prefill_replicas=2, prefill_chip="h100-sxm")
    assert named.latencies == plain.latencies
    assert named.usd_per_million == plain.usd_per_million
    assert named.prefill_deployment is not None
    assert plain.prefill_deployment is None


def test_dollars_and_joules_are_those_of_each_chip() -> None:
    """Prompts pay for the chips that prefill, also while these do nothing, and answers for those that decode."""
    found = fs.simulate(**ASKED, prefill_chip="l40s", prefill_replicas=2)
    hours = found.seconds / 3600.0
    prices = [hourly_price(load(), chip).usd_per_hour or 0.0 for chip in ("l40s", "h100-sxm")]
    usd = {"input": 2.0 * hours * prices[0], "output": hours * prices[1]}
    tokens = {"input": found.input_tokens, "output": found.output_tokens}
    assert found.usd_per_million is not None
    for kind, dollars in usd.items():
        assert found.usd_per_million[kind] == pytest.approx(dollars / tokens[kind] * 1e6, rel=1e-9)
    assert found.usd_per_million_output_tokens == pytest.approx(sum(usd.values()) / tokens["output"] * 1e6)
    assert "prefill rented" in found.price_basis
    assert sum(role.joules for role in found.roles.values()) == pytest.approx(
        found.joules_per_output_token * found.output_tokens
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prefill-chip", "l40x"], "unknown chip 'l40x'; the nearest known: l40s"),
        (["--prefill-chip", "groq-lpu"], "two engines"),
    ],
)
def test_pools_that_cannot_be_joined_are_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    asked = ("simulate", "--model", "llama-3.1-8b", "--chip", "h100-sxm", "--rate", "1", "--requests", "10")
    assert said in refuse(capsys, *asked, *words)


def test_a_cache_needs_one_format_and_a_network() -> None:
    """Of chips in a user's facts: those of the package have a network, and the same formats of a cache."""
    scenario = Scenario(model="llama-3.1-8b", isl=800, osl=40, batch=1)
    prefill, decode, other = (
        resolve(load(), scenario, Deployment(chip=chip, kv_precision=held))
        for chip, held in (("l40s", "bf16"), ("h100-sxm", "bf16"), ("h100-sxm", "fp8"))
    )
    check_pair(prefill, decode)
    with pytest.raises(BadInput, match="bf16 and fp8; give one kv_precision"):
        check_pair(prefill, other)
    alone = replace(prefill.chip, system=replace(prefill.chip.system, scale_out_bytes_per_s=0.0))
    with pytest.raises(BadInput, match="l40s has no network"):
        check_pair(
            replace(prefill, setup=replace(prefill.setup, conditions=replace(prefill.conditions, chip=alone))), decode
        )
