"""Chips stacked along an axis are priced as they are one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import Conditions
from flashstill.cost.load import Load
from flashstill.cost.stacks import essential
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import load
from flashstill.hardware import chip_from_facts, known_chips
from flashstill.hardware.stacked import alike, along, stack
from flashstill.plan.deployment import Deployment
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.setup import conditions_of
from flashstill.plan.tables import Candidates, Priced, candidates, priced

FACTS = load()
LOAD = Load(isl=1000.0, osl=100.0, concurrency=1.0)


def _conditions(model: Architecture, **deployed: Any) -> Iterator[Conditions]:
    for name in known_chips(FACTS):
        chip = chip_from_facts(FACTS, name)
        if chip.wired:
            continue
        conditions = conditions_of(FACTS, model, chip, Deployment(chip=name, **deployed))
        try:
            chip.precision(conditions.precisions.linear)
        except MissingFact:
            continue
        yield conditions


def _check_equal(stacked: Priced, place: int, alone: Priced) -> None:
    columns = [
        (getattr(stacked.pace, name), getattr(alone.pace, name)) for name in (f.name for f in fields(alone.pace))
    ]
    for together, single in (*columns, (stacked.room, alone.room)):
        mine = np.asarray(together)[place]
        np.testing.assert_allclose(mine, np.broadcast_to(single, mine.shape), rtol=1e-12)


def _check_stacks(name: str, chosen: Candidates, **deployed: Any) -> None:
    model = load_architecture(name)
    conditions = list(_conditions(model, **deployed))
    groups = alike(conditions)
    assert sorted(place for group in groups for place in group) == list(range(len(conditions)))
    for group in groups:
        together = priced(model, stack([conditions[place] for place in group]), chosen, LOAD)
        for place, which in enumerate(group):
            _check_equal(together, place, priced(model, conditions[which], chosen, LOAD))


def _small(name: str, chips: int = 16) -> Candidates:
    return candidates(*layouts_of(load_architecture(name), chips), (1, 64))


def test_a_stack_of_one_chip_with_changed_numbers_is_priced_as_each_alone() -> None:
    """Numbers that what-ifs change: peaks, bandwidths, bytes, links, domains, watts, units, floors."""
    model = load_architecture("gpt-oss-120b")
    chip = chip_from_facts(FACTS, "h100-sxm")
    memory = replace(chip.memory, bytes_per_s=5e12, visible_bytes=2e11)
    changed = [
        chip,
        replace(chip, flops_per_s={name: 2.0 * rate for name, rate in chip.flops_per_s.items()}),
        replace(chip, tiers=(memory, *chip.tiers[1:])),
        replace(chip, topology=replace(chip.topology, link_bytes_per_s=9e11)),
        replace(chip, system=replace(chip.system, domain_chips=4, scale_out_bytes_per_s=1e11)),
        replace(chip, power_limit_w=500.0, idle_w=60.0, compute_units=100, on_chip_bytes=1e8),
        replace(chip, calibration=replace(chip.calibration, hop_s=1e-7, scale_out_hop_s=1e-6)),
    ]
    conditions = [conditions_of(FACTS, model, one, Deployment(chip=chip.name)) for one in changed]
    assert alike(conditions) == [list(range(len(changed)))]
    chosen = _small("gpt-oss-120b")
    together = priced(model, stack(conditions), chosen, LOAD)
    for place, one in enumerate(conditions):
        _check_equal(together, place, priced(model, one, chosen, LOAD))


def test_a_stack_may_be_filled_by_hand() -> None:
    model, chosen = load_architecture("qwen3-8b"), _small("qwen3-8b")
    chip = chip_from_facts(FACTS, "tpu-v5p")
    watts = [400.0, 500.0, 900.0]
    numbers: dict[str, Any] = {"power_limit_w": along(watts), "stacked": len(watts)}
    made = replace(chip, **numbers)
    together = priced(model, conditions_of(FACTS, model, made, Deployment(chip=chip.name)), chosen, LOAD)
    assert np.shape(together.pace.tpot_s) == (3, *chosen.shape)
    for place, limit in enumerate(watts):
        alone = conditions_of(FACTS, model, replace(chip, power_limit_w=limit), Deployment(chip=chip.name))
        _check_equal(together, place, priced(model, alone, chosen, LOAD))


def test_equal_numbers_stay_numbers() -> None:
    chip = chip_from_facts(FACTS, "h200-sxm")
    twice = stack([chip, replace(chip, idle_w=50.0)])
    assert (twice.stacked, twice.power_limit_w, twice.calibration) == (2, chip.power_limit_w, chip.calibration)
    assert list(np.shape(twice.idle_w)) == [2, 1, 1, 1, 1]


def test_chips_of_different_structure_are_refused() -> None:
    with pytest.raises(BadInput, match="group them with `alike`"):
        stack([chip_from_facts(FACTS, "h100-sxm"), chip_from_facts(FACTS, "tpu-v5p")])
    with pytest.raises(BadInput, match="at least one"):
        stack([])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3-8b", "deepseek-v3", "gpt-oss-120b", "qwen3-next-80b-a3b"])
def test_every_known_chip_is_priced_in_a_stack_as_alone(name: str) -> None:
    _check_stacks(name, _small(name))


@pytest.mark.slow
def test_stacks_of_kernels_alone_and_of_weights_in_sram() -> None:
    _check_stacks("gpt-oss-120b", _small("gpt-oss-120b", 4), engine="none")
    _check_stacks("deepseek-v3", _small("deepseek-v3", 8), overlap="two-batch")


def test_placements_in_different_tiers_share_a_stack() -> None:
    """Weights and cache in memory or SRAM, together or apart, with the engine's own buffers in memory alone."""
    model, chosen = load_architecture("qwen3-0.6b"), _small("qwen3-0.6b")
    chip = chip_from_facts(FACTS, "tpu-v5p")
    deployed = [
        Deployment(chip=chip.name, weights_in=weights, kv_in=cache)
        for weights, cache in itertools.product(("memory", "sram"), repeat=2)
    ]
    plain = [conditions_of(FACTS, model, chip, one) for one in deployed]
    plain = [replace(one, software=replace(one.software, buffer_bytes=5e9)) for one in plain]
    assert len(alike(plain)) == len(plain)
    same = [essential(one) for one in plain]
    assert alike(same) == [list(range(len(plain)))]
    together = priced(model, stack(same), chosen, LOAD)
    for place, one in enumerate(plain):
        _check_equal(together, place, priced(model, one, chosen, LOAD))


def test_chips_that_multiply_in_fewer_bits_share_a_stack_with_others() -> None:
    """Weights in mxfp4, which an H100 multiplies in 16 bits and a B200 with activations of 8."""
    model, chosen = load_architecture("gpt-oss-20b"), _small("gpt-oss-20b")
    plain = [
        conditions_of(FACTS, model, chip_from_facts(FACTS, name), Deployment(chip=name, engine="sglang"))
        for name in ("h100-sxm", "b200")
    ]
    same = [essential(one) for one in plain]
    assert same[0].input_bytes != same[1].input_bytes
    assert alike(same) == [[0, 1]]
    together = priced(model, stack(same), chosen, LOAD)
    for place, one in enumerate(plain):
        _check_equal(together, place, priced(model, one, chosen, LOAD))


def test_engines_that_divide_memory_for_states_and_others_share_a_stack() -> None:
    """SGLang keeps recurrent states in a pool of their own, vLLM does not."""
    model, chosen = load_architecture("qwen3-next-80b-a3b"), _small("qwen3-next-80b-a3b")
    chip = chip_from_facts(FACTS, "h100-sxm")
    plain = [
        conditions_of(FACTS, model, chip, Deployment(chip="h100-sxm", engine=engine)) for engine in ("vllm", "sglang")
    ]
    together = priced(model, stack([essential(one) for one in plain]), chosen, LOAD)
    for place, one in enumerate(plain):
        _check_equal(together, place, priced(model, one, chosen, LOAD))


def test_chips_with_different_engines_share_a_stack() -> None:
    """An engine's kernels on an H100, and the fastest of all engines on a chip where none has kernels of its own."""
    model, chosen = load_architecture("qwen3-8b"), _small("qwen3-8b")
    plain = [
        conditions_of(FACTS, model, chip_from_facts(FACTS, name), Deployment(chip=name, engine=engine))
        for name, engine in (("h100-sxm", "vllm"), ("groq-lpu", "none"), ("h100-sxm", "sglang"), ("h100-sxm", "none"))
    ]
    same = [essential(one) for one in plain]
    assert alike(same) == [[0, 1, 2], [3]], "on an H100 the fastest kernel of each kind is another engine's"
    together = priced(model, stack(same[:3]), chosen, LOAD)
    for place, one in enumerate(plain[:3]):
        _check_equal(together, place, priced(model, one, chosen, LOAD))
