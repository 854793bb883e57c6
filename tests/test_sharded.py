"""Training in several processes: each reads only its shards, and what comes out is what one process makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from flashstill.distill.models import load_model
from flashstill.distill.models.empty import allocated, empty_model, files_of, fill_buffers, write_plainly
from flashstill.distill.training.recipe import TrainRecipe
from flashstill.distill.training.sharded import Sharded, World
from flashstill.errors import BadInput
from flashstill.measure.memory import kept_bytes
from tests.marks import slow
from tests.zoo import NAMES, tiny

WORKER = Path(__file__).with_name("sharded_worker.py")


def trained(directory: Path, out: Path, processes: int, *more: object) -> dict[str, Any]:
    """The weights after four steps in so many processes."""
    ran = subprocess.run(
        [sys.executable, str(WORKER), str(processes), str(directory), str(out), "4", *map(str, more)],
        capture_output=True, text=True, timeout=1200, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},  # NCCL gives each process its own GPU
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    weights = out / "weights.safetensors"
    return load_file(weights) if weights.is_file() else {}


def losses(out: Path) -> list[float]:
    return [json.loads(row)["loss"] for row in (out / "training" / "metrics.jsonl").read_text().splitlines()]


def saved(name: str, directory: Path) -> Path:
    """A tiny model of the zoo as a Hugging Face directory in float32."""
    tiny(name, 0).float().save_pretrained(directory)
    return directory


@pytest.mark.slow
def test_one_two_and_four_processes_reach_the_same_weights(tmp_path: Path) -> None:
    """In float32 to the rounding of sums in another order: four AdamW steps with clipping, weight decay, masks that
    leave processes different numbers of targets, a tied head whose rows no number of processes divides. Two processes
    are stopped after two steps, and four go on."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=65, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    one = trained(tmp_path / "model", tmp_path / "1", 1)
    assert not trained(tmp_path / "model", tmp_path / "several", 2, 2), "two steps by two"
    several = trained(tmp_path / "model", tmp_path / "several", 4)
    assert losses(tmp_path / "several") == pytest.approx(losses(tmp_path / "1"), abs=2e-6)
    assert several.keys() == one.keys()
    for tensor in one:
        torch.testing.assert_close(several[tensor], one[tensor], rtol=0, atol=2e-6)


@pytest.mark.slow
def test_in_bfloat16_as_in_one_process(tmp_path: Path) -> None:
    """A family whose routers and sinks are kept in float32 and whose norms are rounded in another place than Llama's:
    two processes that are stopped after two steps, and one that goes on."""
    directory = saved("flint", tmp_path / "model")
    one = trained(directory, tmp_path / "1", 1, 0, 0, "bfloat16")
    assert not trained(directory, tmp_path / "several", 2, 2, 0, "bfloat16")
    several = trained(directory, tmp_path / "several", 1, 0, 0, "bfloat16")
    assert losses(tmp_path / "several") == pytest.approx(losses(tmp_path / "1"), abs=2e-5)
    for name, weight in one.items():
        torch.testing.assert_close(several[name], weight, rtol=0, atol=2e-5 if weight.dtype == torch.float32 else 2e-3)


def figures(out: Path) -> list[float]:
    rows = [json.loads(row) for row in (out / "training" / "metrics.jsonl").read_text().splitlines()]
    return [row["validation_loss"] for row in rows]


@pytest.mark.slow
def test_one_and_two_processes_keep_the_same_best_weights(tmp_path: Path) -> None:
    """Of four steps at a rate that hurts. The five windows of the validation leave one process more than the other; two
    processes that are stopped after the checkpoint with the best weights keep the same bits, one process the same to
    rounding."""
    directory = saved(NAMES[0], tmp_path / "model")
    one = trained(directory, tmp_path / "1", 1, 0, 0.03)
    two = trained(directory, tmp_path / "2", 2, 0, 0.03)
    assert not trained(directory, tmp_path / "again", 2, 3, 0.03)
    again = trained(directory, tmp_path / "again", 2, 0, 0.03)
    found = figures(tmp_path / "2")
    assert found == sorted(found), "the first step is the best"
    assert found[-1] > found[0] + 0.1
    assert figures(tmp_path / "again") == found
    assert figures(tmp_path / "1") == pytest.approx(found, abs=2e-5)
    for tensor in one:
        assert torch.equal(again[tensor], two[tensor])
        torch.testing.assert_close(two[tensor], one[tensor], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["mixtral", *slow(NAMES[0])])
def test_an_empty_model_is_filled_with_the_same_weights(name: str, tmp_path: Path) -> None:
    """Also one whose experts lie on disk under other names than its parameters have."""
    directory = saved(name, tmp_path / "model")
    empty = empty_model(directory, torch.float32)
    assert all(parameter.is_meta for parameter in empty.parameters())
    files = files_of(directory, empty)
    if files is None:
        write_plainly(directory, torch.float32, tmp_path / "plain" / "model.safetensors", empty)
        files = files_of(tmp_path / "plain", empty)
    assert files is not None
    allocated(empty, torch.device("cpu"))
    fill_buffers(empty, files)
    with torch.no_grad():
        for own, parameter in empty.named_parameters():
            half = len(parameter) // 2
            parameter[:half].copy_(files.read(own, (slice(0, half),)))
            parameter[half:].copy_(files.read(own, (slice(half, None),)))
        tokens = torch.arange(1, 13)[None]
        torch.testing.assert_close(empty(tokens).logits, load_model(directory, torch.float32).cpu()(tokens).logits)


@pytest.mark.parametrize("name", ["bailing_hybrid", "gptj", *slow("beam", "flint", "deepseek_v4", "kolibri1")])
def test_an_empty_model_has_the_formats_and_tables_of_a_loaded_one(name: str, tmp_path: Path) -> None:
    """Routers, their biases and rates of state spaces stay in float32 in 16-bit models; GPT-J's table of positions is
    made of numbers in the default dtype."""
    directory = saved(name, tmp_path / "model")
    loaded, empty = load_model(directory, torch.bfloat16).cpu(), empty_model(directory, torch.bfloat16)
    for kind in ("named_parameters", "named_buffers"):
        formats = [{own: each.dtype for own, each in getattr(model, kind)()} for model in (loaded, empty)]
        assert formats[0] == formats[1]
    computed = set(dict(loaded.named_buffers())) - set(loaded.state_dict())
    for own in computed:
        assert torch.equal(loaded.get_buffer(own), empty.get_buffer(own)), own


class TestRecompute:
    @pytest.mark.parametrize("name", NAMES[:1])
    def test_gradients_are_the_same_bit_for_bit(self, name: str) -> None:
        from flashstill.distill.models import decoder_layers
        from flashstill.distill.training.recompute import recomputed

        model, tokens = tiny(name, 0).float().train(), torch.arange(1, 25).view(2, 12)
        found = []
        for wanted in (False, True):
            model.zero_grad()
            with recomputed(decoder_layers(model), wanted):
                model(tokens, labels=tokens, use_cache=False).loss.backward()
            found.append({own: weight.grad.clone() for own, weight in model.named_parameters()})
        assert all(torch.equal(found[0][own], found[1][own]) for own in found[0])

    def test_it_keeps_less(self) -> None:
        from flashstill.distill.models import decoder_layers
        from flashstill.distill.training.recompute import recomputed

        model, tokens = tiny(NAMES[0], 0).float().train(), torch.ones(2, 64, dtype=torch.int64)
        whole = kept_bytes(model, tokens)
        with recomputed(decoder_layers(model)):
            assert kept_bytes(model, tokens) < whole / 3


def test_parameters_that_are_single_numbers_are_refused() -> None:
    """FSDP2 stops at them, and a process has no rows of them to write; no family that transformers ships has any."""
    model, recipe = tiny("llama"), TrainRecipe(tokens=8, windows_per_step=1, learning_rate=0.1)
    model.model.gain = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(BadInput, match=r"^model\.gain is a single number.* train this model in one process"):
        Sharded(torch.nn.ModuleDict({"model": model}), model.model.layers, recipe, World(size=2))
