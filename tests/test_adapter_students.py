"""Students that train an adapter: as peft trains it, beside weights that stay; written as adapter and merged."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from flashstill.distill.losses import DenseTeacher, Term, head_loss
from flashstill.distill.models import load_model, parts
from flashstill.distill.models.devices import current
from flashstill.distill.training import Offline, TrainRecipe, distillation, train
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes.distillation import read_distillation
from flashstill.runs.distillation import run_distillation
from tests.adapters import TOKENS, logits, peft
from tests.distillations import metrics, same, torchrun, weights, written
from tests.marks import slow
from tests.zoo import NAMES, tiny

adapters = pytest.importorskip("flashstill.distill.adapters.training")
targets = pytest.importorskip("flashstill.distill.adapters.targets")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft")
ADAPTER = """
[student.adapter]
rank = 4
alpha = 8
"""


def adapter(**settings: Any) -> Any:
    return adapters.Adapter(**{"rank": 4, "alpha": 8.0, **settings})


def roused(model: Any, seed: int = 3) -> Any:
    """A new adapter changes nothing; give it random matrices."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, layer in adapters.adapted_layers(model):
            up = layer.lora_B["default"].weight
            up.copy_(0.3 * torch.randn(up.shape, generator=generator))
    return model


def trained_names(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


FAMILIES = ["qwen3_moe", *slow("llama", "gpt2")]


@pytest.mark.parametrize("name", FAMILIES)
def test_all_linear_layers_of_the_blocks(name: str) -> None:
    model = tiny(name, 0)
    chosen = targets.target_names(model)
    last = {each.rpartition(".")[2] for each in chosen}
    expected = {
        "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        "gpt2": {"c_attn", "c_proj", "c_fc"},
        "qwen3_moe": {"q_proj", "k_proj", "v_proj", "o_proj"},  # experts are one tensor, and routers stay
    }
    assert last == expected[name]
    adapters.attach(model, adapter())
    assert {each.rpartition(".lora_")[0] for each in trained_names(model)} == set(chosen)


def check_family(name: str, **settings: Any) -> None:
    model = tiny(name, 0)
    before = logits(model)
    adapters.attach(model, adapter(**settings))
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)  # DoRA divides a norm by itself
    roused(model)
    after = logits(model)
    assert not torch.allclose(after, before, rtol=0, atol=1e-4)
    adapters.merge(model)
    torch.testing.assert_close(logits(model), after, rtol=1e-3, atol=2e-4)
    assert not adapters.is_adapted(model)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("settings", [{"dora": True, "rslora": True}, *slow({})], ids=["dora", "lora"])
def test_merged_is_the_same_model(name: str, settings: dict[str, Any]) -> None:
    check_family(name, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_any_family(name: str) -> None:
    check_family(name)


def test_targets_by_name() -> None:
    model = tiny("llama", 0)
    assert {each.rpartition(".")[2] for each in targets.target_names(model, ["q_proj", "mlp.up_proj"])} == {
        "q_proj", "up_proj",
    }  # fmt: skip
    with pytest.raises(BadInput, match=r"unknown target layer 'q_prj'.*q_proj"):
        targets.target_names(model, ["q_prj"])
    with pytest.raises(BadInput, match="unknown target layer 'lm_head'"):
        targets.target_names(model, ["lm_head"])


def peft_reference(model: Any, **settings: Any) -> Any:
    """peft's own model with the same adapter."""
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **settings
    )
    return peft.get_peft_model(copy.deepcopy(model), config, autocast_adapter_dtype=False)


@pytest.mark.parametrize("dora", [False, True])
def test_gradients_are_those_of_peft_and_autograd(dora: bool) -> None:
    base, teacher = tiny("llama", 0).double(), tiny("llama", 1).double()
    ours, theirs = copy.deepcopy(base), peft_reference(base, use_dora=dora)
    adapters.attach(ours, adapter(targets=("q_proj", "down_proj"), dora=dora))
    roused(ours)
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(ours.get_parameter(name.removeprefix("base_model.model.")).data)
    with torch.no_grad():
        goal = teacher(input_ids=TOKENS).logits.flatten(0, 1)
        known = parts(teacher)
        hidden = known.hidden(TOKENS).flatten(0, 1)
    term = Term(teacher=DenseTeacher(hidden=(hidden,), heads=(known.head.detach(),)))
    own = parts(ours)
    student = own.hidden(TOKENS).flatten(0, 1)
    head_loss(student, own.head, [term], torch.full((12,), 1 / 12, dtype=torch.float64))[0].backward()  # type: ignore[no-untyped-call]
    log_q = torch.log_softmax(theirs(input_ids=TOKENS).logits.flatten(0, 1), -1)
    log_p = torch.log_softmax(goal, -1)
    (log_p.exp() * (log_p - log_q)).sum(-1).mean().backward()  # type: ignore[no-untyped-call]
    checked = 0
    for name, parameter in theirs.named_parameters():
        mine = ours.get_parameter(name.removeprefix("base_model.model."))
        if parameter.requires_grad:
            torch.testing.assert_close(mine.grad, parameter.grad, rtol=1e-9, atol=1e-12)
            checked += 1
        else:
            assert mine.grad is None
    assert checked == 2 * 2 * (3 if dora else 2)


def test_a_step_is_peft_with_adamw(packed: Any, tmp_path: Path) -> None:
    packed = dataclasses.replace(packed, tokens=packed.tokens % 90)
    base, teacher = tiny("llama", 0), tiny("llama", 1)
    ours, theirs = copy.deepcopy(base), peft_reference(base)
    adapters.attach(ours, adapter(targets=("q_proj", "down_proj")))
    roused(ours)
    names = sorted(trained_names(ours))
    for name in names:
        theirs.get_parameter(f"base_model.model.{name}").data.copy_(ours.get_parameter(name).data)
    frozen = {name: each.clone() for name, each in ours.state_dict().items() if name not in names}
    recipe = TrainRecipe(tokens=4 * 32, windows_per_step=4, learning_rate=1e-3, schedule="constant", clip_norm=1e6)
    tokens = torch.from_numpy(packed.tokens[Offline(packed, 4, 0).batch(0, lambda: None).windows].astype("int64"))

    def known(batch: Any) -> DenseTeacher:
        with torch.no_grad():
            hidden = parts(teacher).hidden(batch.inputs).flatten(0, 1)
        return DenseTeacher(hidden=(hidden,), heads=(parts(teacher).head.detach(),))

    teacher.to(current())  # where training takes the student and its batches
    train(ours, Offline(packed, 4, 0), distillation(known), recipe, tmp_path, Silent(), "step")
    ours.cpu()
    teacher.cpu()
    with torch.no_grad():
        log_p = torch.log_softmax(teacher(input_ids=tokens[:, :-1]).logits, -1)
    log_q = torch.log_softmax(theirs(input_ids=tokens[:, :-1]).logits, -1)
    (log_p.exp() * (log_p - log_q)).sum(-1).mean().backward()  # type: ignore[no-untyped-call]
    optimiser = torch.optim.AdamW(
        [theirs.get_parameter(f"base_model.model.{name}") for name in names],
        lr=1e-3,
        betas=(0.9, 0.95),
        weight_decay=0.0,
    )
    optimiser.step()
    for name in names:
        wanted = theirs.get_parameter(f"base_model.model.{name}")
        torch.testing.assert_close(ours.get_parameter(name), wanted, rtol=1e-4, atol=2e-5)
    assert all(torch.equal(ours.state_dict()[name], each) for name, each in frozen.items())
    checkpoint = load_file(next(tmp_path.glob("step-*")) / "share-0-of-1.safetensors")
    held = {name.removeprefix("master/model.") for name in checkpoint if name.startswith("master/")}
    assert held == set(names), "weights that stay are in no checkpoint"


def recipe_at(path: Path, teacher: Path, data: Path, more: str = ADAPTER, kind: str = "copy") -> Path:
    written(path, teacher, data, tokens=2048)
    text = path.read_text().replace('kind = "depth"\nkeep_layers = 3', f'kind = "{kind}"')
    path.write_text(text.replace("[signals]", f"{more}\n[signals]").replace('"bf16"', '"fp32"'))
    return path


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ("[student.adapter]\nalpha = 3", "copy", "student.adapter.alpha needs student.adapter.rank"),
        (ADAPTER, "upcycle", "choose kind copy, depth or width"),
        ('quantise = "int4"\n' + ADAPTER, "copy", "leave one out"),
        (ADAPTER + "[budget]\nmemory_gb = 1", "depth", "a \\[budget\\] measures students that train all weights"),
        (ADAPTER + "[student.adapter2]\nrank = 1", "copy", "adapter2"),
    ],
)
def test_recipes_that_are_refused(tmp_path: Path, tiny_teacher: Path, more: str, kind: str, words: str) -> None:
    path = recipe_at(tmp_path / "r.toml", tiny_teacher, tmp_path, more, kind)
    with pytest.raises(BadInput, match=words):
        read_distillation(path)


@pytest.mark.slow
def test_a_run_leaves_an_adapter_and_the_merged_model(tiny_teacher: Path, text_file: Path, tmp_path: Path) -> None:
    recipe = read_distillation(recipe_at(tmp_path / "r.toml", tiny_teacher, text_file))
    out = tmp_path / "out"
    summary = run_distillation(recipe, out, Silent())
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_teacher)
    assert set(config["target_modules"]) == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    tensors = load_file(out / "adapter" / "adapter_model.safetensors")
    assert summary["adapter"]["parameters"] == sum(each.numel() for each in tensors.values())
    base = load_model(tiny_teacher, torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, out / "adapter").eval()
    ours = load_model(out / "student", torch.float32)
    assert not torch.equal(logits(ours), logits(load_model(tiny_teacher, torch.float32)))
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=0, atol=0.02 * float(logits(theirs).abs().max()))
    assert math.isfinite(summary["quality"]["student"]["heldout"]["bits_per_byte"][0])


@pytest.mark.slow
def test_resumes_bit_for_bit(
    tiny_teacher: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe_at(tmp_path / "r.toml", tiny_teacher, text_file, ADAPTER + "dropout = 0.1\n")
    recipe = read_distillation(path)
    run_distillation(recipe, tmp_path / "whole", Silent(), judged=False)
    from flashstill.distill.training import checkpoints

    writes = 0

    def killed(*args: Any, **settings: Any) -> None:
        nonlocal writes
        checkpoints.write(*args, **settings)
        writes += 1
        if writes == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("flashstill.distill.training.loop.write", killed)
        with pytest.raises(KeyboardInterrupt):
            run_distillation(recipe, tmp_path / "parts", Silent(), judged=False)
    run_distillation(recipe, tmp_path / "parts", Silent(), judged=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    first, second = (
        load_file(tmp_path / each / "adapter" / "adapter_model.safetensors") for each in ("whole", "parts")
    )
    assert same(first, second)


@pytest.mark.slow
def test_two_processes(tiny_teacher: Path, text_file: Path, tmp_path: Path) -> None:
    path = recipe_at(tmp_path / "r.toml", tiny_teacher, text_file)
    run_distillation(read_distillation(path), tmp_path / "one", Silent(), judged=False)
    done = torchrun(path, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    for one, two in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3, abs=1.5e-6)  # six decimals are written
    first, second = (load_file(tmp_path / each / "adapter" / "adapter_model.safetensors") for each in ("one", "two"))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=2e-3)


def test_samples_are_those_of_the_adapted_model() -> None:
    from flashstill.distill.generate import Sampling, sample

    model = tiny("llama", 0)
    adapters.attach(model, adapter())
    roused(model)
    settings = Sampling(new_tokens=8, temperature=0.0, stop=(95,))
    found = sample(model, [[5, 9, 40]], settings).tokens
    merged = sample(adapters.merge(model), [[5, 9, 40]], settings).tokens
    assert (found == merged).all()
