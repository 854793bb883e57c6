"""Drafting heads: unrolled steps equal drafting token by token, training lowers the loss, directories keep the head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import flashstill as fs
from flashstill.distill.data.packing import Packed
from flashstill.distill.drafts import DraftPass, Eagle, EagleDrafter, is_eagle, load_eagle, save_eagle
from flashstill.distill.generate import Sampling, sample, speculate
from flashstill.distill.models import Model, parts
from flashstill.distill.teachers import Online
from flashstill.distill.training import Offline, TrainRecipe, distillation, train
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.records import AcceptanceRecord, read_records
from tests.marks import slow
from tests.small_models import head_of, made, small
from tests.tiny import make_other_text, make_sample_text, make_tiny_teacher
from tests.zoo import tiny


def states_of(model: Model, tokens: torch.Tensor) -> torch.Tensor:
    return parts(model).hidden(tokens)


def assert_near(states: torch.Tensor, expected: torch.Tensor) -> None:
    """But for rounding, which grows with the states from step to step, and on some machines depends on how many rows
    are multiplied at a time. Another position or document is as far off as the states are large."""
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def test_unrolled_steps_are_those_of_drafting_from_each_position() -> None:
    model = made("llama")
    eagle, tokens = head_of(model), torch.randint(3, 30, (2, 12), generator=torch.Generator().manual_seed(1))
    hidden = states_of(model, tokens)
    unrolled = list(eagle.unrolled(hidden, tokens, 4))
    for begin in (0, 3, 6):  # the target's states up to `begin` are known, and the tokens after them
        states, past = eagle.read(hidden[:, : begin + 1], tokens[:, 1 : begin + 2], None)
        for step in range(4):
            assert_near(states[:, -1], unrolled[step][:, begin + 1 + step])
            states, past = eagle.read(states[:, -1:], tokens[:, begin + 2 + step, None], past)


@torch.no_grad()
def test_documents_of_a_window_do_not_see_each_other() -> None:
    model = made("llama")
    eagle, tokens = head_of(model), torch.randint(3, 30, (1, 14), generator=torch.Generator().manual_seed(1))
    starts = torch.zeros(1, 14, dtype=torch.int64)
    starts[0, [0, 6]] = 1
    hidden = torch.cat([states_of(model, tokens[:, :6]), states_of(model, tokens[:, 6:])], 1)
    alone = list(eagle.unrolled(hidden[:, 6:], tokens[:, 6:], 3))
    for step, states in enumerate(eagle.unrolled(hidden, tokens, 3, starts)):
        assert_near(states[:, 6 + step + 1 :], alone[step][:, step + 1 :])


def test_a_draft_changes_no_greedy_text_of_its_target() -> None:
    model = made("llama")
    settings, prompts = Sampling(new_tokens=10, temperature=0.0), [[5, 6, 7], [9]]
    drafted = speculate(model, EagleDrafter(head_of(model)), prompts, settings, 3)
    plain = [sample(model, [prompt], settings).tokens[0] for prompt in prompts]
    assert np.array_equal(drafted.tokens, np.stack(plain))


FAMILIES = ("gpt2", "gemma2", "cohere", "mamba", "qwen3_moe", "falcon_h1", "granite", "jamba", "bloom")


@pytest.mark.parametrize("name", ["opt", *slow(*FAMILIES)])
def test_a_head_drafts_for_targets_of_every_family(name: str) -> None:
    model = tiny(name)
    settings, prompts = Sampling(new_tokens=6, temperature=0.0), [[5, 6, 7], [9, 4, 5]]
    drafted = speculate(model, EagleDrafter(head_of(model)), prompts, settings, 2)
    plain = [sample(model, [prompt], settings).tokens[0] for prompt in prompts]
    assert np.array_equal(drafted.tokens, np.stack(plain))


def trained(model: Model, eagle: Eagle, folder: Path, run: DraftPass, tokens: int = 1600) -> list[float]:
    """Train a head on the target's own text; the loss of each step."""
    prompts = np.random.default_rng(0).integers(3, 30, (16, 4))
    text = np.concatenate([prompts, sample(model, list(prompts), Sampling(new_tokens=13, seed=2)).tokens], 1)
    rows = np.zeros((16, 16), dtype=np.int32)
    packed = Packed(tokens=text.astype(np.int32), target_bytes=rows, target_document=rows)
    recipe = TrainRecipe(tokens=tokens, windows_per_step=4, learning_rate=3e-3)
    train(eagle, Offline(packed, 4, 0), distillation(Online(model)), recipe, folder, Silent(), "draft", run=run)
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_what_it_shares_follows_it_to_another_device() -> None:
    model = made("llama")
    eagle = head_of(model).to(torch.float32)
    assert eagle.embedding.data_ptr() == model.get_input_embeddings().weight.data_ptr()  # shared while it can be
    eagle.to("meta")
    assert {eagle.device, eagle.embedding.device, eagle.head.device} == {torch.device("meta")}


@pytest.mark.slow
def test_training_lowers_the_loss_and_leaves_the_target_as_it_is(tmp_path: Path) -> None:
    model = made("llama")
    eagle = head_of(model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    losses = trained(model, eagle, tmp_path, DraftPass(steps=2, feature_weight=0.1))
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_a_saved_head_is_the_same_and_has_the_names_of_the_engines(tmp_path: Path) -> None:
    model = made("llama")
    eagle = head_of(model)
    save_eagle(eagle, tmp_path / "draft", {"target": "abc"})
    (tmp_path / "draft" / "checksums.json").unlink()  # as a stranger's head
    save_file({"fc.weight": torch.ones(2, 2)}, tmp_path / "draft" / "stray.safetensors")
    again = load_eagle(tmp_path / "draft", model, "abc")
    for name, weight in eagle.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    names = set(load_file(tmp_path / "draft" / "model.safetensors"))
    assert {"fc.weight", "fc.bias", "layers.0.self_attn.q_proj.weight", "layers.0.mlp.down_proj.weight"} <= names
    assert not any("embed_tokens" in name or "lm_head" in name or "input_layernorm" in name for name in names)
    config = json.loads((tmp_path / "draft" / "config.json").read_text())
    assert (config["architectures"], config["num_hidden_layers"]) == (["LlamaForCausalLM"], 1)
    assert is_eagle(tmp_path / "draft")


def test_a_head_of_another_target_is_refused(tmp_path: Path) -> None:
    model = made("llama")
    save_eagle(head_of(model), tmp_path / "draft", {"target": "abc"})
    with pytest.raises(BadInput, match="hidden states of another model"):
        load_eagle(tmp_path / "draft", model, "abd")
    with pytest.raises(BadInput, match="32 wide with 32 tokens; this one is 16 wide with 8"):
        load_eagle(tmp_path / "draft", small())


RECIPE = """
name = "draft"
[[teachers]]
model = "target"
[student]
kind = "eagle"
{more}
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[signals]\nkind = 'topk'", "signals.kind must be hidden or none, not topk"),
        ("[regime]\nkind = 'sequence'", "set regime.soft to true"),
        ("[signals]\nkind = 'none'\n[regime]\nkind = 'on-policy'", "regime.kind must be offline or sequence"),
        ("[draft]\nprompt_tokens = 1", "draft.prompt_tokens must be at least 2"),
        ("quantise = 'int4'", "is not quantised and made of no model"),
        ("[[teachers]]\nmodel = 'other'", "name one teacher that is a directory"),
        ("[draft]\nsteps = 0", "draft.steps"),
    ],
)
def test_recipes_that_train_no_head_are_refused(tmp_path: Path, more: str, said: str) -> None:
    path = tmp_path / "draft.toml"
    path.write_text(RECIPE.format(more=more))
    with pytest.raises(BadInput, match=said):
        read_distillation(path)


def test_draft_settings_of_another_student_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "draft.toml"
    path.write_text(RECIPE.format(more="[draft]\nsteps = 2").replace("eagle", "copy"))
    with pytest.raises(BadInput, match=r"\[draft\] is of a student of kind eagle, not copy"):
        read_distillation(path)


@pytest.mark.slow
def test_a_recipe_trains_a_head_measures_it_and_resumes(tmp_path: Path) -> None:
    teacher = make_tiny_teacher(tmp_path / "target", make_sample_text())
    for name in ("own.txt", "other.txt"):
        (tmp_path / name).write_text(make_sample_text() if name == "own.txt" else make_other_text())
    path = tmp_path / "draft.toml"
    path.write_text(
        f"name = 'draft'\ndata = '{tmp_path}/own.txt'\nout_of_domain = '{tmp_path}/other.txt'\n"
        f"[[teachers]]\nmodel = '{teacher}'\n[student]\nkind = 'eagle'\n"
        "[text]\nwindow_tokens = 32\ntrain_tokens = 2048\nheldout_tokens = 256\nout_of_domain_tokens = 256\n"
        "[draft]\nsteps = 2\nprompts = 6\nprompt_tokens = 8\nnew_tokens = 12\ndraft_tokens = 3\ntemperatures = [1.0]\n"
        "[[losses]]\ndivergence = 'total-variation'\n"
        "[train]\ntokens = 8192\nlearning_rate = 5e-3\narithmetic = 'fp32'\n"
    )
    done = fs.distill(path, tmp_path / "out")
    untrained, trained = (record["acceptance"][0] for record in done.summary["acceptance"])
    assert trained > untrained
    records = read_records(tmp_path / "out" / "student" / "acceptance.jsonl")
    assert [record.draft for record in records if isinstance(record, AcceptanceRecord)] == ["draft"]
    again = fs.acceptance(
        str(teacher), str(tmp_path / "out" / "student"), f"own={tmp_path}/own.txt", documents=4, prompt_tokens=8,
        new_tokens=8, draft_tokens=2, arithmetic="fp32",
    )  # fmt: skip
    assert again[0].kind == "eagle"
    assert again[0].documents > 1
    assert fs.distill(path, tmp_path / "out").summary == done.summary
