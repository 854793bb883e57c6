"""Students with another tokenizer than their teacher: from recipe to summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flashstill.distill.models import load_model, load_tokenizer, save_model
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes.distillation import read_distillation
from flashstill.runs.distillation import run_distillation
from tests.distillations import metrics, same, torchrun, weights
from tests.recorded_progress import RecordedProgress
from tests.two_tokenizers import byte_level, unigram

RECIPE = """
name = "across"
seed = 1
data = "{data}"
out_of_domain = "{other}"
align = "spans"
{top}

[[teachers]]
model = "{teacher}"

[student]
{student}

[signals]
kind = "{signals}"

[text]
window_tokens = 32
train_tokens = 4096
heldout_tokens = 256
out_of_domain_tokens = 256

[train]
tokens = {tokens}
windows_per_step = 4
learning_rate = 2e-3
checkpoint_every_steps = 5
arithmetic = "fp32"
"""


def model_with(tokenizer: Any, path: Path, seed: int = 0) -> Path:
    """A random Llama with a tokenizer, as a directory."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    save_model(LlamaForCausalLM(config), tokenizer, path)
    return path


def recipe_at(path: Path, teacher: Path, data: Path, student: str, **keys: Any) -> Path:
    other = path.with_name("strangers.txt")
    other.write_text("\n\n".join(f"def step_{i}(x):\n    return x * {i} + {i * i}" for i in range(300)))
    given = {"signals": "hidden", "tokens": 2048, "top": "", **keys}
    path.write_text(RECIPE.format(data=data, other=other, teacher=teacher, student=student, **given))
    return path


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, sample_text: str) -> Path:
    return model_with(byte_level(400, [sample_text[:3000]]), tmp_path_factory.mktemp("models") / "student")


REFUSED = {
    "top-k": ("", {"signals": "topk"}, "kind hidden or none"),
    "no model": ('kind = "copy"', {}, "name it with student.model"),
    "no tokenizer": ('kind = "scratch"\nconfig = "config.json"', {}, "student.tokenizer must name"),
    "a tokenizer too many": ('kind = "copy"\nmodel = "x"\ntokenizer = "y"', {}, "leave student.tokenizer out"),
    "on policy": ("", {"top": '[regime]\nkind = "on-policy"\n', "signals": "none"}, "regime.kind must be offline"),
}


@pytest.mark.parametrize(("shape", "keys", "words"), REFUSED.values(), ids=REFUSED)
def test_recipes_that_are_refused(shape: str, keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = recipe_at(tmp_path / "r.toml", tmp_path, tmp_path, shape or f'kind = "copy"\nmodel = "{tmp_path}"', **keys)
    with pytest.raises(BadInput, match=words):
        read_distillation(path)


def test_losses_over_spans_need_two_tokenizers(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    losses = '[[losses]]\ndivergence = "{}"\n'
    for name, words in (("uld", 'set align = "spans"'), ("gold:0.5", 'set align = "spans"'), ("gold:2", "be one of")):
        path.write_text(f'name = "x"\n[[teachers]]\nmodel = "x"\n[student]\nkind = "copy"\n{losses.format(name)}')
        with pytest.raises(BadInput, match=words):
            read_distillation(path)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["forward-kl", "gold:0.5", "uld"])
def test_a_run(loss: str, tiny_teacher: Path, student: Path, text_file: Path, tmp_path: Path) -> None:
    top = f'hard_weight = 0.1\nlosses = [{{divergence = "{loss}"}}]'
    path = recipe_at(tmp_path / "r.toml", tiny_teacher, text_file, f'kind = "copy"\nmodel = "{student}"', top=top)
    progress = RecordedProgress()
    summary = run_distillation(read_distillation(path), tmp_path / "out", progress)
    assert any("spans" in line and "of one token on both sides" in line for line in progress.lines)
    quality = summary["quality"]
    assert quality["student"]["heldout"]["bits_per_byte"][0] < quality["initial"]["heldout"]["bits_per_byte"][0]
    assert "kl_on_spans" in quality["student"]["heldout"]
    assert "kl_to_teacher" not in quality["student"]["heldout"]
    if loss != "uld":
        assert quality["student"]["heldout"]["kl_on_spans"][0] < quality["initial"]["heldout"]["kl_on_spans"][0]
    tokenizer = load_tokenizer(tmp_path / "out" / "student")
    assert tokenizer.get_vocab() == load_tokenizer(student).get_vocab()


@pytest.mark.slow
def test_one_tokenizer_is_the_ordinary_run(tiny_teacher: Path, text_file: Path, tmp_path: Path) -> None:
    own = model_with(load_tokenizer(tiny_teacher), tmp_path / "own", seed=7)
    shape = f'kind = "copy"\nmodel = "{own}"'
    rows = []
    for name, kind in (("aligned", "hidden"), ("plain", "hidden"), ("online", "none")):
        path = recipe_at(tmp_path / f"{name}.toml", tiny_teacher, text_file, shape, signals=kind)
        if name == "plain":
            path.write_text(path.read_text().replace('align = "spans"\n', ""))
        run_distillation(read_distillation(path), tmp_path / name, Silent(), judged=False)
        rows.append([row["loss"] for row in metrics(tmp_path / name)])
    assert rows[0] == pytest.approx(rows[1], rel=2e-4)
    assert rows[0] == pytest.approx(rows[2], rel=2e-4)


@pytest.mark.slow
def test_from_scratch_with_a_metaspace_resumed_and_in_two_processes(
    tiny_teacher: Path, text_file: Path, sample_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = model_with(unigram(200, [sample_text[:4000]]), tmp_path / "own")
    shape = f'kind = "scratch"\nconfig = "{own / "config.json"}"\ntokenizer = "{own}"'
    path = recipe_at(tmp_path / "r.toml", tiny_teacher, text_file, shape)
    recipe = read_distillation(path)
    run_distillation(recipe, tmp_path / "whole", Silent(), judged=False)
    from flashstill.distill.training import checkpoints

    def killed(*args: Any, **settings: Any) -> None:
        checkpoints.write(*args, **settings)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("flashstill.distill.training.loop.write", killed)
        with pytest.raises(KeyboardInterrupt):
            run_distillation(recipe, tmp_path / "parts", Silent(), judged=False)
    run_distillation(recipe, tmp_path / "parts", Silent(), judged=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    done = torchrun(path, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    for one, two in zip(metrics(tmp_path / "whole"), metrics(tmp_path / "two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=2e-3)
    assert load_model(tmp_path / "two" / "student").config.vocab_size == len(load_tokenizer(own))


@pytest.mark.slow
def test_conversations_are_refused(tiny_teacher: Path, student: Path, tmp_path: Path) -> None:
    data = tmp_path / "chat.jsonl"
    data.write_text(
        "".join(f'{{"prompt": "What is {i} + {i}?", "completion": "It is {2 * i}."}}\n' for i in range(300))
    )
    path = recipe_at(tmp_path / "r.toml", tiny_teacher, data, f'kind = "copy"\nmodel = "{student}"')
    with pytest.raises(BadInput, match="align = spans reads plain text"):
        run_distillation(read_distillation(path), tmp_path / "out", Silent())


@pytest.mark.slow
def test_the_teacher_is_learned_better_than_from_labels(text_file: Path, sample_text: str, tmp_path: Path) -> None:
    """A trained teacher; two students with another tokenizer, the same start and steps."""
    base = model_with(byte_level(400, [sample_text[:8000]]), tmp_path / "base")
    labels = "hard_weight = 1.0\nlosses = []"
    own = recipe_at(tmp_path / "t.toml", base, text_file, 'kind = "copy"', tokens=24_576, top=labels)
    own.write_text(own.read_text().replace('align = "spans"\n', ""))
    run_distillation(read_distillation(own), tmp_path / "teacher", Silent(), judged=False)
    start = model_with(unigram(200, [sample_text[:8000]]), tmp_path / "start", seed=5)
    found = {}
    for name, top in (("kd", ""), ("labels", labels)):
        shape = f'kind = "copy"\nmodel = "{start}"'
        path = recipe_at(
            tmp_path / f"{name}.toml", tmp_path / "teacher" / "student", text_file, shape, tokens=8192, top=top
        )
        quality = run_distillation(read_distillation(path), tmp_path / name, Silent())["quality"]
        found[name] = {metric: value[0] for metric, value in quality["student"]["heldout"].items()}
        found["initial"] = {metric: value[0] for metric, value in quality["initial"]["heldout"].items()}
    assert found["kd"]["kl_on_spans"] < 0.9 * found["labels"]["kl_on_spans"] < found["initial"]["kl_on_spans"], found


@pytest.mark.slow
def test_evaluated_on_spans(tiny_teacher: Path, student: Path, text_file: Path) -> None:
    from flashstill.evaluate import evaluate_models
    from flashstill.records import QualityRecord

    def values(models: list[str], metrics: tuple[str, ...]) -> dict[tuple[str, str], float]:
        found = evaluate_models(
            models, [str(text_file)], teacher=str(tiny_teacher), metrics=metrics, tokens=512, window_tokens=32,
            arithmetic="fp32",
        )  # fmt: skip
        return {(each.model, each.metric): each.value for each in found.records if isinstance(each, QualityRecord)}

    across = values([f"other={student}"], ("kl_on_spans", "agreement_on_spans"))
    assert set(across) >= {("other", "kl_on_spans"), ("other", "agreement_on_spans"), ("other", "bits_per_byte")}
    assert across["other", "kl_on_spans"] > 0
    with pytest.raises(BadInput, match="or for --metric kl_on_spans"):
        values([f"other={student}"], ())
    own = model_with(load_tokenizer(tiny_teacher), student.parent / "same", seed=3)
    same_tokenizer = values([f"own={own}"], ("kl_to_teacher", "agreement", "kl_on_spans", "agreement_on_spans"))
    for metric, name in (("kl_to_teacher", "kl_on_spans"), ("agreement", "agreement_on_spans")):
        assert same_tokenizer["own", name] == pytest.approx(same_tokenizer["own", metric], rel=1e-3), "one tokenizer"
    with pytest.raises(BadInput, match="give --teacher"):
        evaluate_models([str(student)], [str(text_file)], metrics=["kl_on_spans"])


def test_columns_of_a_summary_stand_apart() -> None:
    from flashstill.cli.learning import against_teacher, student_lines

    figures = {"bits_per_byte": [7.2871, 7, 8], "kl_on_spans": [1.3477, 1, 2], "agreement_on_spans": [0.5, 0.4, 0.6]}
    assert against_teacher(figures) == ("spans 1.3477", "50.0%")
    summary = {
        "quality": {"student": {"heldout": figures}}, "parameters": {"student": 8},
        "arithmetic": {"precision": "fp32", "threads": 1}, "training_s": 1.0, "tokens_per_s": 1.0,
    }  # fmt: skip
    assert "7.2871  spans 1.3477" in student_lines(summary)[1]
