"""LoRA adapters of others: merged as peft runs them, and every file checked before it is used."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flashstill.arch.catalogue import load_architecture
from flashstill.distill.models import load_model
from flashstill.distill.teachers import resolve_teacher
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.records import QualityRecord
from tests.adapters import edited, logits, peft, tuned, written
from tests.marks import slow
from tests.zoo import tiny

merging = pytest.importorskip("flashstill.distill.adapters.merging")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft")
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": ["q_proj", "down_proj"]},
    "ranks": {
        "target_modules": ["q_proj", "k_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 2},
        "alpha_pattern": {"k_proj": 3},
    },
    "rslora": {"target_modules": ["v_proj"], "use_rslora": True},
    "dora": {"target_modules": ["o_proj", "gate_proj"], "use_dora": True},
    "biases": {"target_modules": ["q_proj"], "bias": "all"},
    "all-linear": {"target_modules": "all-linear"},
    "some layers": {"target_modules": ["up_proj"], "layers_to_transform": [1]},
    "an expression": {"target_modules": r".*layers\.\d+\.mlp\.(up|down)_proj"},
    "the head as well": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "an embedding": {"target_modules": ["q_proj", "embed_tokens"]},
}  # fmt: skip
QUICK = ("ranks", "dora", "biases", "an expression", "the head as well")


@pytest.fixture(scope="module")
def base() -> Any:
    model = tiny("qwen2", 0)  # it has biases
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().flip(0).clone())
    model.config.tie_word_embeddings = False
    return model


@pytest.mark.parametrize(
    "settings",
    [pytest.param(each, id=name, marks=[] if name in QUICK else pytest.mark.slow) for name, each in KINDS.items()],
)
def test_merged_is_what_peft_runs(base: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    model = tuned(base, **settings)
    merged = copy.deepcopy(base)
    merging.merge_directory(merged, written(model, tmp_path / "adapter"))
    assert not torch.allclose(logits(base), logits(model), atol=1e-3)
    torch.testing.assert_close(logits(merged), logits(model), rtol=1e-4, atol=1e-5)


def test_layers_that_are_stored_turned(tmp_path: Path) -> None:
    turned = tiny("gpt2", 0)
    model = tuned(turned, target_modules=["c_attn", "c_proj"], use_dora=True)
    merging.merge_directory(turned, written(model, tmp_path / "adapter"))
    torch.testing.assert_close(logits(turned), logits(model), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def written_adapter(tiny_teacher: Path, loaded_teacher: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tuned(copy.deepcopy(loaded_teacher), target_modules=["q_proj", "down_proj"])
    return written(model, tmp_path_factory.mktemp("adapters") / "adapter", tiny_teacher)


@pytest.fixture
def adapter(written_adapter: Path, tmp_path: Path) -> Path:
    """An adapter of the tiny teacher, which it names."""
    return Path(shutil.copytree(written_adapter, tmp_path / "adapter"))


@pytest.mark.slow
def test_a_directory_stands_for_the_merged_model(adapter: Path, tiny_teacher: Path) -> None:
    place = resolve_teacher(str(adapter), Silent())
    assert place == resolve_teacher(str(adapter), Silent()) != tiny_teacher
    ours = load_model(place, torch.float32)
    theirs = peft.PeftModel.from_pretrained(load_model(tiny_teacher, torch.float32), adapter).eval()
    largest = float(logits(theirs).abs().max())
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=0, atol=0.02 * largest)  # weights in bfloat16
    assert not torch.allclose(logits(ours), logits(load_model(tiny_teacher, torch.float32)), atol=0.02 * largest)


def test_is_priced_as_its_base(adapter: Path, tiny_teacher: Path) -> None:
    shape, own = load_architecture(str(adapter)), load_architecture(str(tiny_teacher))
    assert (shape.name, shape.parameters) == ("adapter", own.parameters)
    edited(adapter, base_model_name_or_path="Qwen/Qwen3-32B")
    assert load_architecture(str(adapter)).parameters == load_architecture("qwen3-32b").parameters
    edited(adapter, base_model_name_or_path="nobody/nothing")
    with pytest.raises(BadInput, match="neither on this disk nor in the catalogue"):
        load_architecture(str(adapter))


def test_the_base_is_named_or_nothing_is_loaded(adapter: Path, tiny_teacher: Path) -> None:
    edited(adapter, base_model_name_or_path="someone/a-model")
    with pytest.raises(BadInput, match=r"'someone/a-model', which is not on this disk; name its directory with `base`"):
        resolve_teacher(str(adapter), Silent())
    assert resolve_teacher(str(adapter), Silent(), base=str(tiny_teacher)).is_dir()
    with pytest.raises(BadInput, match="is no adapter"):
        resolve_teacher(str(tiny_teacher), Silent(), base=str(tiny_teacher))
    edited(adapter, base_model_name_or_path=".")
    with pytest.raises(BadInput, match=r"not on this disk|has no config\.json"):
        resolve_teacher(str(adapter), Silent())


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another type": ({"peft_type": "IA3"}, "peft_type 'IA3'"),
    "no type": ({"peft_type": None}, "peft_type 'None'"),
    "another task": ({"task_type": "SEQ_CLS"}, "SEQ_CLS"),
    "pissa": ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'"),
    "a huge rank": ({"r": 10**12}, "r must be a rank"),
    "another rank": ({"r": 8}, "has the shape"),
    "no alpha": ({"lora_alpha": "many"}, "lora_alpha must be a number"),
    "experts": ({"target_parameters": ["mlp.experts"]}, "target_parameters"),
    "an expression": ({"alpha_pattern": {"(a+)+$": 3}}, "expressions are not run"),
    "more layers than tensors": ({"target_modules": ["q_proj", "down_proj", "v_proj"]}, "no tensors for .*v_proj"),
    "no magnitudes": ({"use_dora": True}, "disagree about magnitudes"),
    "names": ({"target_modules": {"a": 1}}, "must be a list of names"),
}


@pytest.mark.parametrize(("fields", "words"), REFUSED.values(), ids=REFUSED)
def test_configurations_that_are_refused(adapter: Path, fields: dict[str, Any], words: str) -> None:
    edited(adapter, **fields)
    with pytest.raises(BadInput, match=words) as caught:
        resolve_teacher(str(adapter), Silent())
    assert "\n" not in str(caught.value)


LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
Tensors = dict[str, torch.Tensor]


def spoiled(tensors: Tensors, how: str) -> Tensors:
    down = tensors[f"{LAYER}.lora_A.weight"]
    changes: dict[str, Tensors] = {
        "nan": {f"{LAYER}.lora_A.weight": torch.full_like(down, float("nan"))},
        "shape": {f"{LAYER}.lora_A.weight": down[:, :-1].contiguous()},
        "stranger": {"base_model.model.model.layers.99.self_attn.q_proj.lora_A.weight": down.clone()},
        "whole stranger": {"base_model.model.model.else.weight": down.clone()},
        "no peft": {"x": down.clone()},
    }
    spoilt = {**tensors, **changes.get(how, {})}
    if how == "one of two":
        spoilt.pop(f"{LAYER}.lora_B.weight")
    if how == "a layer less":
        spoilt = {name: tensor for name, tensor in spoilt.items() if not name.startswith(LAYER)}
    return spoilt


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("nan", "not finite"), ("shape", "has the shape"), ("whole stranger", "belongs to no layer"),
        ("a layer less", "has no tensors for model.layers.0.self_attn.q_proj"),
        *slow(
            ("stranger", "only one of its two"), ("no peft", "no tensor of a peft adapter"),
            ("one of two", "only one of its two"),
        ),
    ],
)  # fmt: skip
def test_tensors_that_are_refused(adapter: Path, how: str, words: str) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file(spoiled(load_file(file), how), file)
    with pytest.raises(BadInput, match=words):
        resolve_teacher(str(adapter), Silent())


def test_files_that_are_refused(adapter: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(adapter, tmp_path / "broken"))
    (broken / "adapter_model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        resolve_teacher(str(broken), Silent())
    (broken / "adapter_model.safetensors").rename(broken / "adapter_model.bin")
    with pytest.raises(BadInput, match="pickles can run code"):
        resolve_teacher(str(broken), Silent())
    (broken / "adapter_config.json").write_text("[1]")
    with pytest.raises(BadInput, match="not a JSON object"):
        resolve_teacher(str(broken), Silent())


def test_weights_that_two_layers_share(tmp_path: Path) -> None:
    tied = tiny("qwen2", 0)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    path = written(tuned(tied, target_modules=["q_proj", "lm_head"]), tmp_path / "adapter")
    with pytest.raises(BadInput, match=r"shares (with another layer|its weights)"):
        merging.merge_directory(tied, path)


@pytest.mark.slow
def test_evaluated_with_a_base_by_name(adapter: Path, tiny_teacher: Path, text_file: Path) -> None:
    from flashstill.evaluate import evaluate_models

    edited(adapter, base_model_name_or_path="someone/a-model")
    found = evaluate_models(
        [str(adapter)], [str(text_file)], base=str(tiny_teacher), teacher=str(tiny_teacher), tokens=256,
        window_tokens=32, arithmetic="fp32",
    )  # fmt: skip
    values = {(each.model, each.metric): each.value for each in found.records if isinstance(each, QualityRecord)}
    assert values["adapter", "kl_to_teacher"] > values["teacher", "kl_to_teacher"] == 0.0
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "someone/a-model"
    with pytest.raises(BadInput, match="none of the models is an adapter"):
        evaluate_models([str(tiny_teacher)], [str(text_file)], base=str(tiny_teacher))
