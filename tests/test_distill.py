"""`flashstill distill`: results that open elsewhere, processes that agree, kills that lose nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from flashstill import files
from flashstill.arch.catalogue import read_config
from flashstill.cli.learning import share_of
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.runs.distillation import run_distillation
from flashstill.runs.workdir import Workdir
from tests.commands import Cli
from tests.distillations import metrics, same, shot_at_random, torchrun, weights, written


@pytest.fixture
def recipe(tmp_path: Path, tiny_teacher: Path, text_file: Path) -> Path:
    return written(tmp_path / "distill.toml", tiny_teacher, text_file)


def distil(recipe: Path, out: Path) -> dict[str, Any]:
    """In this process, which has torch loaded already; the command line is tried once."""
    return run_distillation(read_distillation(recipe), out, Silent())


@pytest.mark.slow
def test_one_student(cli: Cli, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = cli("distill", recipe, "--out", out, "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    student, initial = (found["quality"][name]["heldout"]["kl_to_teacher"][0] for name in ("student", "initial"))
    assert student < initial
    assert found["quality"]["teacher"]["heldout"]["agreement"][0] == 1.0
    assert read_config(out / "student" / "config.json", "student").depth == 3
    assert [row["step"] for row in metrics(out)] == list(range(1, 17))
    assert {"loss", "rate", "grad_norm", "tokens_per_s"} <= metrics(out)[0].keys()
    assert cli("distill", recipe, "--out", out, "--json").stdout == ran.stdout, "a second run only reads"


@pytest.mark.slow
def test_the_student_generates_in_plain_transformers(recipe: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "out"
    distil(recipe, out)
    model = AutoModelForCausalLM.from_pretrained(out / "student")
    tokenizer = AutoTokenizer.from_pretrained(out / "student")
    prompt = tokenizer("The cache", return_tensors="pt").input_ids
    assert model.generate(prompt, max_new_tokens=4, do_sample=False).shape[1] > prompt.shape[1]
    left = [out / ".student.x.part", out / "data" / ".train.1.part"]  # as a killed run leaves them
    for each in left:
        each.touch()
    (out / ".student.x.part").rename(out / f".student.{files._host()}@{2**22 + 1}.abc.part")  # of no living process
    (out / "student" / "model.safetensors").write_bytes((out / "student" / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(BadInput, match=r"student/model.safetensors is not what was written there"):
        distil(recipe, out)
    assert not list(out.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("signals", ["sampled", "topk", "none"])
def test_every_kind_of_signal_teaches(tmp_path: Path, tiny_teacher: Path, text_file: Path, signals: str) -> None:
    recipe = written(tmp_path / "distill.toml", tiny_teacher, text_file, signals)
    quality = distil(recipe, tmp_path / "out")["quality"]
    kl = {name: quality[name]["heldout"]["kl_to_teacher"][0] for name in ("initial", "student")}
    assert kl["student"] < kl["initial"]


@pytest.mark.slow
def test_online_and_cached_teachers_teach_the_same(tmp_path: Path, tiny_teacher: Path, text_file: Path) -> None:
    for signals in ("hidden", "none"):
        recipe = written(tmp_path / f"{signals}.toml", tiny_teacher, text_file, signals)
        distil(recipe, tmp_path / signals)
    assert same(weights(tmp_path / "hidden"), weights(tmp_path / "none"))


@pytest.mark.slow
def test_without_losses_the_text_alone_teaches(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text("losses = []\nhard_weight = 1.0\n" + recipe.read_text())
    quality = distil(recipe, tmp_path / "out")["quality"]
    perplexity = {name: quality[name]["heldout"]["perplexity"][0] for name in ("initial", "student")}
    assert perplexity["student"] < 0.7 * perplexity["initial"]
    assert not (tmp_path / "out" / "signals" / "teacher-0" / "train").exists(), "what teaches nothing is not asked"


@pytest.mark.slow
def test_distillations_share_text_signals_and_starts(recipe: Path, tmp_path: Path) -> None:
    alone = distil(recipe, tmp_path / "alone")
    for name in ("one", "two"):
        arm = Workdir.arm(tmp_path, name, "start")
        found = run_distillation(read_distillation(recipe), arm, Silent(), judged=False)
        assert found == {}
        assert {path.name for path in arm.out.iterdir() if path.name[0] != "."} - {"search.json"} == {
            "distill.toml", "origins.json", "student", "training",
        }  # fmt: skip
        assert same(weights(arm.out), weights(tmp_path / "alone"))
    assert alone["quality"]


class TestSeveralTeachers:
    @pytest.mark.slow
    def test_an_ensemble_of_one_teacher_twice_is_that_teacher(
        self, tmp_path: Path, tiny_teacher: Path, text_file: Path
    ) -> None:
        single = written(tmp_path / "one.toml", tiny_teacher, text_file)
        both = tmp_path / "two.toml"
        again = f'\n[[teachers]]\nmodel = "{tiny_teacher}"\nweight = 3.0\n\n[student]'
        both.write_text(single.read_text().replace("\n[student]", again))
        for recipe in (single, both):
            distil(recipe, tmp_path / recipe.stem)
        losses = [[row["loss"] for row in metrics(tmp_path / name)] for name in ("one", "two")]
        assert losses[0] == pytest.approx(losses[1], rel=0.01)

    @pytest.mark.slow
    def test_specialists_teach_their_own_text(
        self, tmp_path: Path, tiny_teacher: Path, text_file: Path, other_text: str
    ) -> None:
        (tmp_path / "code.txt").write_text(other_text)
        recipe = written(tmp_path / "routed.toml", tiny_teacher, text_file)
        own = f'"\ndata = "{text_file}"\n\n[[teachers]]\nmodel = "{tiny_teacher}"\ndata = "code.txt"\n\n[student]'
        recipe.write_text(recipe.read_text().replace('"\n\n[student]', own))
        quality = distil(recipe, tmp_path / "out")["quality"]
        assert quality["student"]["heldout"]["kl_to_teacher"][0] < quality["initial"]["heldout"]["kl_to_teacher"][0]


class TestSignals:
    @pytest.mark.slow
    def test_several_processes_fill_one_directory(self, cli: Cli, recipe: Path, tmp_path: Path) -> None:
        whole, shared = tmp_path / "whole", tmp_path / "shared"
        ran = cli("distill", recipe, "--out", whole, "--build-signals", "--json")
        assert ran.returncode == 0, ran.stderr
        document = json.loads(ran.stdout)
        (built,) = (document[name] for name in document if name not in ("schema", "version", "question"))
        assert built["tokens_per_s"] > 0
        assert built["bytes_per_token"] >= 64
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "flashstill", "distill", str(recipe), "--out", str(shared), "--build-signals"]
        running = [
            subprocess.Popen([*command, "--shard", f"{i}/2"], env=environment, stderr=subprocess.DEVNULL)
            for i in range(2)
        ]
        assert [process.wait(timeout=1200) for process in running] == [0, 0]
        ours = sorted((shared / "signals").rglob("windows-*.safetensors"))
        assert len(ours) == 1
        for path in ours:
            assert path.read_bytes() == (whole / path.relative_to(shared)).read_bytes()

    @pytest.mark.parametrize("share", ["2/2", "a/b", "1", "-1/2"])
    def test_a_share_that_is_none(self, share: str) -> None:
        with pytest.raises(BadInput, match="give I/N"):
            share_of(share)


class TestMistakes:
    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ('kind = "depth"', 'kind = "dept"', "nearest known: depth"),
            ('kind = "hidden"', 'kind = "hiden"', "nearest known: hidden"),
            ("keep_layers = 3", "keep_layers = 7", "keep_layers is 7, but the teacher tiny-teacher has 6 layers"),
            ("keep_layers = 3", "keep_layer = 3", "nearest known: keep_layers"),
            (
                "windows_per_step = 4",
                "windows_per_step = 4\nmicro_windows = 3",
                "micro_windows is 3, which does not divide the 4 windows of a step",
            ),
            ("windows_per_step = 4", 'windows_per_step = 4\nschedule = "cosin"', "nearest known: cosine"),
            ("[student]", "[student]\ncompensate_windows = 2", "quantise to int4"),
            ("seed = 1", "seed = 1\nlosses = []", "nothing to learn"),
            ("[train]", '[[losses]]\ndivergence = "revers-kl"\n[train]', "reverse-kl"),
            ('kind = "hidden"', 'kind = "topk"\n[[losses]]\ntemperature = 2.0', "at temperature 1 only"),
        ],
    )
    def test_one_sentence(self, recipe: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
        recipe.write_text(recipe.read_text().replace(old, new))
        with pytest.raises(BadInput) as stopped:
            distil(recipe, tmp_path / "out")
        assert said in str(stopped.value)
        assert "\n" not in str(stopped.value)

    @pytest.mark.slow
    def test_teachers_of_different_vocabularies(self, recipe: Path, tmp_path: Path, tiny_teacher: Path) -> None:
        import shutil

        other = tmp_path / "other"
        shutil.copytree(tiny_teacher, other)
        tokenizer = json.loads((other / "tokenizer.json").read_text())
        tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 384, "content": "<|more|>"})
        (other / "tokenizer.json").write_text(json.dumps(tokenizer))
        again = f'\n[[teachers]]\nmodel = "{other}"\n\n[student]'
        recipe.write_text(recipe.read_text().replace("\n[student]", again))
        with pytest.raises(BadInput, match=r"different vocabularies \(tiny-teacher 384, other 385 tokens\)"):
            distil(recipe, tmp_path / "out")

    @pytest.mark.parametrize("text", ["", "one"])
    def test_an_empty_or_one_word_document(self, recipe: Path, tmp_path: Path, text: str) -> None:
        (tmp_path / "corpus.txt").write_text(text)
        with pytest.raises(BadInput, match="holds no text" if not text else "at least two are needed"):
            distil(recipe, tmp_path / "out")


@pytest.mark.slow
def test_two_processes_equal_one(cli: Cli, recipe: Path, tmp_path: Path) -> None:
    """Losses within 0.5 %, weights within 10 % of the way they went, in bfloat16: sums are taken in another order."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert cli("distill", recipe, "--out", one).returncode == 0
    ran = torchrun(recipe, two)
    assert ran.returncode == 0, ran.stderr
    losses = [[row["loss"] for row in metrics(out)] for out in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    ours, theirs, first = weights(one), weights(two), load_file(one / "initial" / "model.safetensors")
    apart = sum(float((ours[name].float() - theirs[name].float()).square().sum()) for name in ours) ** 0.5
    moved = sum(float((ours[name].float() - first[name].float()).square().sum()) for name in ours) ** 0.5
    assert apart < 0.1 * moved


@pytest.mark.slow
def test_twenty_five_kills_of_a_training_run(cli: Cli, tmp_path: Path, tiny_teacher: Path, text_file: Path) -> None:
    """A run of many steps, shot 25 times: the weights are those of a run that was never touched, bit for bit."""
    recipe = written(tmp_path / "distill.toml", tiny_teacher, text_file, tokens=4096)
    longer = recipe.read_text().replace("tokens = 4096\nwindows", "tokens = 262144\nwindows")
    recipe.write_text(longer.replace("checkpoint_every_steps = 3", "checkpoint_every_steps = 20"))
    straight, shot_at = tmp_path / "straight", tmp_path / "shot"
    assert cli("distill", recipe, "--out", straight).returncode == 0
    command = [sys.executable, "-m", "flashstill", "distill", str(recipe), "--out", str(shot_at)]

    def look() -> None:
        assert same(weights(straight), weights(shot_at))
        assert [row["loss"] for row in metrics(straight)] == [row["loss"] for row in metrics(shot_at)]

    shot_at_random(command, shot_at, 25, "distil half", 0.9, 0, look)


@pytest.mark.slow
def test_twenty_five_kills_of_a_signal_build(
    cli: Cli, tmp_path: Path, tiny_teacher: Path, text_file: Path, sample_text: str
) -> None:
    text_file.write_text("\n\n".join(f"{part}\n{sample_text}" for part in range(40)))
    recipe = written(tmp_path / "distill.toml", tiny_teacher, text_file, signals="topk", tokens=163_840)
    straight, shot_at = tmp_path / "straight", tmp_path / "shot"
    ran = cli("distill", recipe, "--out", straight, "--build-signals")
    assert ran.returncode == 0, ran.stderr
    command = [sys.executable, "-m", "flashstill", "distill", str(recipe), "--out", str(shot_at), "--build-signals"]
    ours = sorted(path.relative_to(straight) for path in (straight / "signals").rglob("windows-*"))
    assert len(ours) > 20

    def look() -> None:
        for path in ours:
            assert (straight / path).read_bytes() == (shot_at / path).read_bytes()

    shot_at_random(command, shot_at, 25, "signals of", 0.5, 1, look)


def test_the_recipes_of_the_docs_are_recipes(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "distill.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in page.split("```toml\n")[1:]]
    examples = [each for each in blocks if each.startswith("name = ")]  # others are tables that a recipe may have
    assert len(examples) == 8
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.toml"
        path.write_text(example)
        recipe = read_distillation(path)
        assert recipe.routed == (number == 2)
        assert recipe.teachers[0].served == (number == 3)
        assert recipe.budget.is_set == (number == 4)
