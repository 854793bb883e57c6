"""What a model cannot do is said before text is packed, signals are made or a student is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import flashstill as fs
from flashstill.distill.models import load_tokenizer, text_part
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.recipes.distillation import ShapeRecipe
from flashstill.runs.distillation import run_distillation
from flashstill.runs.limits import check_parts
from tests import zoo
from tests.chatting import CHATML, write_lines
from tests.distillations import written
from tests.remote_configs import LING


@pytest.fixture
def recipe(tmp_path: Path, tiny_teacher: Path, text_file: Path) -> Path:
    return written(tmp_path / "distill.toml", tiny_teacher, text_file)


def refused(recipe: Path) -> str:
    """The sentence, after which nothing but the recipe and its locks lies in the directory."""
    out = recipe.parent / "out"
    with pytest.raises(BadInput) as stopped:
        run_distillation(read_distillation(recipe), out, Silent())
    left = {each.name for each in out.iterdir()} if out.exists() else set()
    assert left <= {"distill.toml", ".lock", ".gitignore", "arithmetic.json"}, left
    assert "\n" not in str(stopped.value)
    return str(stopped.value)


def changed(recipe: Path, more: str) -> Path:
    """The recipe with more lines in its table [student]."""
    recipe.write_text(recipe.read_text().replace("keep_layers = 3\n", f"keep_layers = 3\n{more}\n"))
    return recipe


def test_a_teacher_that_needs_code_of_its_own(recipe: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    own = shutil.copytree(tiny_teacher, tmp_path / "ling")
    (own / "config.json").write_text(json.dumps(LING))
    (own / "configuration_bailing_moe_v2.py").write_text("raise SystemExit('code of a model was run')")
    sentence = refused(written(recipe, own, tmp_path / "text.txt"))
    assert sentence.endswith(
        "ling cannot be loaded: transformers has no model_type 'bailing_moe_v2', and code that comes with a model"
        " (auto_map) is never run"
    )


@pytest.mark.parametrize("key", ["data", "out_of_domain"])
def test_a_text_that_is_not_there_is_told_before_the_teacher_is_read(recipe: Path, key: str) -> None:
    lines = [
        f'{key} = "/missing.txt"' if each.startswith(f"{key} =") else each for each in recipe.read_text().split("\n")
    ]
    recipe.write_text("\n".join(lines))
    assert "data '/missing.txt' is neither a file nor a directory" in refused(recipe)


def test_layers_that_the_model_has_not(recipe: Path) -> None:
    adapter = changed(recipe, '[student.adapter]\nrank = 4\ntargets = ["q_prj"]')
    assert "unknown target layer 'q_prj'; the nearest known: q_proj" in refused(adapter).replace(", k_proj", "")


@pytest.mark.parametrize("asked", ["balance_rate = 0.1", "balance_loss = 0.1"])
def test_routers_that_the_model_has_not(recipe: Path, asked: str) -> None:
    assert "LlamaForCausalLM has no router of experts to balance" in refused(changed(recipe, asked))


def test_an_adapter_leaves_the_routers(recipe: Path) -> None:
    path = changed(recipe, "balance_loss = 0.1\n[student.adapter]\nrank = 4")
    with pytest.raises(BadInput, match=r"student\.adapter leaves the routers as they are"):
        read_distillation(path)


class TestBalance:
    def test_of_a_model_with_routers(self) -> None:
        check_parts(ShapeRecipe(kind="copy", balance_loss=0.1), zoo.tiny("mixtral", 0))
        check_parts(ShapeRecipe(kind="copy", balance_rate=0.1), zoo.tiny("glm4_moe", 0))
        with pytest.raises(BadInput, match="have no correction bias that balance_rate could move; use balance_loss"):
            check_parts(ShapeRecipe(kind="copy", balance_rate=0.1), zoo.tiny("mixtral", 0))
        with pytest.raises(BadInput, match="a student of kind dense has no routers"):
            check_parts(ShapeRecipe(kind="dense", balance_loss=0.1), zoo.tiny("mixtral", 0))

    def test_of_an_upcycled_student(self) -> None:
        """Of what it will be: Mistral becomes Mixtral, whose routers have no bias, and Llama a GLM-4, whose have."""
        asked: dict[str, Any] = {"kind": "upcycle", "experts": 6, "experts_per_token": 2, "expert_neurons": 8}
        with pytest.raises(BadInput, match="routers of MixtralForCausalLM have no correction bias that balance_rate"):
            check_parts(ShapeRecipe(**asked, balance_rate=0.1), zoo.tiny("mistral", 0))
        check_parts(ShapeRecipe(**asked, balance_loss=0.1), zoo.tiny("mistral", 0))
        check_parts(ShapeRecipe(**asked, balance_rate=0.1), zoo.tiny("llama", 0))
        check_parts(ShapeRecipe(**asked, into="glm4_moe", balance_rate=0.1), zoo.tiny("mistral", 0))

    def test_of_a_student_from_scratch(self, tmp_path: Path) -> None:
        for name in ("mixtral", "llama"):
            zoo.tiny(name, 0).config.save_pretrained(tmp_path / name)
        check_parts(
            ShapeRecipe(kind="scratch", config=str(tmp_path / "mixtral" / "config.json"), balance_loss=0.1), None
        )
        llama = ShapeRecipe(kind="scratch", config=str(tmp_path / "llama" / "config.json"), balance_loss=0.1)
        with pytest.raises(BadInput, match="LlamaForCausalLM has no router"):
            check_parts(llama, None)


def test_compensated_rounding_of_a_mixture() -> None:
    """It was refused only after the text was packed and the weights were read."""
    asked = ShapeRecipe(kind="copy", quantise="int4", group=4, compensate_windows=2)
    check_parts(asked, zoo.tiny("qwen3", 0))
    with pytest.raises(BadInput, match=r"not implemented for experts \(model.layers.1.mlp.experts of Qwen3Moe"):
        check_parts(asked, zoo.tiny("qwen3_moe", 0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(recipe: Path, tiny_teacher: Path, tmp_path: Path, value: float) -> None:
    spoiled = Path(shutil.copytree(tiny_teacher, tmp_path / "spoiled"))
    (spoiled / "checksums.json").unlink(missing_ok=True)
    tensors = load_file(spoiled / "model.safetensors")
    tensors["model.layers.4.mlp.up_proj.weight"][1, 2] = value
    save_file(tensors, spoiled / "model.safetensors", metadata={"format": "pt"})
    recipe.write_text(recipe.read_text().replace(str(tiny_teacher), str(spoiled)))
    assert "model.layers.4.mlp.up_proj.weight in model.safetensors holds values that are not finite" in refused(recipe)


def test_a_relative_that_refuses_a_switch_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some configurations check their fields as they are read."""
    from transformers import LlamaConfig

    read = LlamaConfig.from_dict

    def strict(fields: dict[str, Any], **more: Any) -> Any:
        if fields.get("attention_bias"):
            raise ValueError("no biases here")
        return read(fields, **more)

    monkeypatch.setattr(LlamaConfig, "from_dict", strict)
    monkeypatch.setattr(text_part, "text_fields", lambda config: {"model_type": "llama", "hidden_size": 64})
    found = [config for _, config in text_part._candidates(LlamaConfig()) if type(config) is LlamaConfig]
    assert len(found) > 1
    assert not any(config.attention_bias for config in found)


def test_runs_are_refused_before_they_take_a_directory(tmp_path: Path) -> None:
    for keywords in ({"arithmetic": "fp8"}, {"seed": -1}, {"seed": 1.5}):
        with pytest.raises(fs.BadInput, match=r"unknown arithmetic 'fp8'|seed is .*, not a whole number"):
            fs.run("demo", tmp_path / "out", **keywords)
    for minutes in (0.0, -1.0, float("nan"), True):
        with pytest.raises(fs.BadInput, match=r"minutes is .*, not a number"):
            fs.run("demo", tmp_path / "out", minutes=minutes)
    with pytest.raises(fs.BadInput, match="a study takes as long as its seeds need"):
        fs.run("rounding", tmp_path / "out", minutes=1.0)
    assert not (tmp_path / "out").exists()
    with pytest.raises(fs.BadInput, match="unknown metric 'acuracy'"):
        fs.evaluate("smollm2-135m-instruct", "cpython-docs", metrics="acuracy")


@pytest.mark.parametrize("use", ["text", "chat", "not used"])
def test_a_text_with_tokens_that_the_teacher_does_not_know(
    recipe: Path, tiny_teacher: Path, tmp_path: Path, text_file: Path, use: str
) -> None:
    """A tokenizer may have more tokens than its model: the first document that holds one is named, before any later
    one is packed; tokens that no text uses are no matter."""
    model = Path(shutil.copytree(tiny_teacher, tmp_path / "added"))
    tokenizer = load_tokenizer(model)
    tokenizer.add_tokens(["<|mine|>"])
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(model)
    lines = text_file.read_text().split("\n\n")
    rows: list[dict[str, Any]] = [{"text": line} for line in lines[:40]]
    word = "word" if use == "not used" else "<|mine|>"
    if use == "chat":
        user = {"role": "user", "content": "?"}
        rows = [{"messages": [user, {"role": "assistant", "content": f"{place} {word}"}]} for place in range(40)]
    else:
        rows[7]["text"] = f"a {word} in the middle"
    data = write_lines(tmp_path / "rows.jsonl", rows)
    written(recipe, model, data)
    recipe.write_text(recipe.read_text().replace("window_tokens = 32", "window_tokens = 96"))
    if use == "not used":
        run_distillation(read_distillation(recipe), tmp_path / "out", Silent())
        return
    sentence = refused(recipe)
    where = "rows.jsonl:8 holds" if use == "text" else "holds"
    assert where in sentence
    assert "holds token '<|mine|>', which has the id 384, but the teacher added knows only 384 tokens" in sentence
