"""Packed students: as small as their format says, and the same model as the plain directory, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from flashstill.arch.catalogue import read_config
from flashstill.distill.models import load_model, load_tokenizer
from flashstill.distill.students import Experts, Format, upcycle, write_compressed
from flashstill.errors import UnsupportedArchitecture
from tests.marks import slow
from tests.packing import both

TOKENS = torch.arange(48).reshape(2, 24) * 7 % 384


def logits(path: Path) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)(TOKENS).logits
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bits"), [("int4", 4 + 16 / 16), *slow(("ternary", 2 + 16 / 16), ("fp8", 8.0))]
)  # scales are 16 bits a group of 16; the cost arm does not count one scale an output
def test_a_packed_student_is_the_plain_one(tiny_teacher: Path, tmp_path: Path, name: str, bits: float) -> None:
    plain, packed, weights = both(load_model(tiny_teacher), Format(name=name, group=16), tiny_teacher, tmp_path)
    assert len(weights) == 6 * 7
    assert torch.equal(logits(plain), logits(packed))
    shape = read_config(packed / "config.json", "packed")
    assert shape.formats.linear.bits == shape.formats.attention.bits == bits
    assert shape.formats.base.bits == 16
    small, large = ((path / "model.safetensors").stat().st_size for path in (packed, plain))
    assert small < large
    prompt = load_tokenizer(packed)("The cache", return_tensors="pt").input_ids
    assert AutoModelForCausalLM.from_pretrained(packed).generate(prompt, max_new_tokens=3, do_sample=False).shape[1] > 3


@pytest.mark.slow
def test_experts_are_packed_one_by_one(tiny_teacher: Path, tmp_path: Path) -> None:
    experts = Experts(routed=6, per_token=2, shared=2, neurons=8)
    sparse = upcycle(load_model(tiny_teacher), experts, TOKENS, 0)
    plain, packed, weights = both(sparse, Format(name="int4", group=8), tiny_teacher, tmp_path)
    assert len(weights) == 6 * (4 + 3 + 6 * 3)
    assert read_config(packed / "config.json", "packed").formats.experts.bits == 4 + 16 / 8
    names = sorted(weights)
    assert "model.layers.0.mlp.experts.5.down_proj.weight" in names
    assert not any("mlp.gate." in name for name in names), "routers stay as they are"
    from safetensors.torch import load_file

    held, whole = load_file(packed / "model.safetensors"), load_file(plain / "model.safetensors")
    assert {name.replace("weight_packed", "weight") for name in held if "weight_s" not in name} == set(whole)


@pytest.mark.slow
def test_a_checkpoint_with_other_names_is_refused(tiny_teacher: Path, tmp_path: Path) -> None:
    plain, _, weights = both(load_model(tiny_teacher), Format(name="int4", group=16), tiny_teacher, tmp_path)
    strange = {name.replace("q_proj", "query"): held for name, held in weights.items()}
    with pytest.raises(UnsupportedArchitecture, match=r"has no model.layers.0.self_attn.query.weight"):
        write_compressed(plain, tmp_path / "again", strange, Format(name="int4", group=16), [])
    assert not (tmp_path / "again").exists()
