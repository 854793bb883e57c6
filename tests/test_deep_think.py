"""Deep think to flash: what is chosen of many attempts, what a student reads of it, and runs that are resumed."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.distill.data.packing import joined_rows
from flashstill.distill.generate import Sampling, sample
from flashstill.distill.models import load_model, load_tokenizer
from flashstill.distill.reasoning import chains as chains_module
from flashstill.distill.reasoning.chains import Chains, Verdicts, chain_key, encoded_prompts, judge, think
from flashstill.distill.reasoning.chats import as_chats
from flashstill.distill.reasoning.choosing import Choice, chosen, learned, packed_rows
from flashstill.distill.reasoning.judging import OUTCOMES, Judges
from flashstill.distill.reasoning.letters import letter_tokenizer
from flashstill.distill.reasoning.matching import Extract
from flashstill.distill.reasoning.problems import Problem, save_problems
from flashstill.distill.reasoning.spec import Spec
from flashstill.errors import BadInput
from flashstill.evaluate.problems import harder_half, many_attempts, one_pass, powers_of_two, quality_records
from flashstill.progress import Silent
from flashstill.recipes.studies import read_study, recipe_file
from flashstill.recipes.thinking import LearnTable, NetTable, ThinkingStudy
from flashstill.records import ModelRecord, QualityRecord, read_records
from flashstill.studies import run_study
from flashstill.studies.deep_think.models import learn, new_model
from flashstill.studies.deep_think.work import Work
from tests.intervals import ends_of
from tests.thinking import study


def tried(texts: list[list[str]], right: Sequence[Sequence[float]]) -> tuple[Chains, Verdicts]:
    """Chains of one token a letter, and verdicts; equal texts are equal answers, an empty one is none."""
    attempts, longest = len(texts[0]), max(len(text) for row in texts for text in row) or 1
    tokens = np.full((len(texts), attempts, longest), -1, dtype=np.int32)
    said = np.full((len(texts), attempts), -1, dtype=np.int64)
    for problem, row in enumerate(texts):
        for place, text in enumerate(row):
            tokens[problem, place, : len(text)] = [ord(letter) for letter in text]
            said[problem, place] = row.index(text) if text else -1
    lengths = (tokens >= 0).sum(-1).astype(np.int32)
    chains = Chains(tokens=tokens, log_p=np.zeros(said.shape, dtype=np.float32), lengths=lengths)
    score = np.asarray(right, dtype=np.float32)
    return chains, Verdicts(score=score, outcome=(score < 1).astype(np.uint8), said=said)


TEXTS = [["aaa", "b", "aaa", "cc"], ["d", "e", "e", ""], ["f", "f", "f", "f"]]
RIGHT = [[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]


class TestChoice:
    def test_right_ones_once_each(self) -> None:
        assert chosen(*tried(TEXTS, RIGHT), Choice(most=0)).tolist() == [[0, 0], [0, 1], [2, 0]]
        assert chosen(*tried(TEXTS, RIGHT), Choice(budget=2)).tolist() == [[0, 1], [2, 0]]
        assert chosen(*tried(TEXTS, RIGHT), Choice(attempts=1)).tolist() == [[0, 0], [2, 0]]

    def test_which_come_first(self) -> None:
        chains, verdicts = tried(TEXTS, RIGHT)
        assert chosen(chains, verdicts, Choice(most=1, prefer="shortest")).tolist() == [[0, 1], [2, 0]]
        chains.log_p[0] = [-3, -4, -2, -1]
        assert chosen(chains, verdicts, Choice(most=1)).tolist() == [[0, 2], [2, 0]], "3 is likelier, and wrong"
        chains.log_p[0, 1] = -1
        assert chosen(chains, verdicts, Choice(most=1)).tolist() == [[0, 1], [2, 0]]
        with pytest.raises(BadInput, match="the nearest known: likeliest"):
            Choice(prefer="likliest")

    def test_other_rules(self) -> None:
        assert chosen(*tried(TEXTS, RIGHT), Choice(rule="first")).tolist() == [[0, 0], [1, 0], [2, 0]]
        assert chosen(*tried(TEXTS, RIGHT), Choice(rule="majority")).tolist() == [[0, 0], [1, 1], [2, 0]]
        half = [[0.5, 0.4, 1, 0]] + RIGHT[1:]
        assert chosen(*tried(TEXTS, half), Choice(rule="score", least=0.5)).tolist() == [[0, 0], [2, 0]]
        nothing = tried([["", ""]], [[0, 0]])
        assert chosen(*nothing, Choice(rule="majority")).shape == (0, 2)

    def test_shuffled_verdicts_let_as_many_through(self) -> None:
        generator = np.random.default_rng(0)
        right = (generator.random((200, 8)) < 0.3).astype(int).tolist()
        texts = [[f"{place}" for place in range(8)] for _ in range(200)]
        counts = [len(chosen(*tried(texts, right), Choice(rule=rule, most=0), 1)) for rule in ("verified", "shuffled")]
        assert counts[0] == counts[1]
        dealt = chosen(*tried(texts, right), Choice(rule="shuffled", most=0), 1)
        assert np.mean([right[problem][place] for problem, place in dealt]) == pytest.approx(0.3, abs=0.06)

    def test_mistakes(self) -> None:
        with pytest.raises(BadInput, match="nearest known: verified"):
            Choice(rule="verifed")
        with pytest.raises(BadInput, match="a choice among 9 attempts needs as many; 4 were made"):
            chosen(*tried(TEXTS, RIGHT), Choice(attempts=9))
        with pytest.raises(BadInput, match="must not be negative"):
            Choice(most=-1)


class TestRows:
    def test_masks_lie_on_the_targets_of_the_answer(self) -> None:
        packed = packed_rows([[1, 2, 3], [4]], [[5, 0], [6, 7, 8, 0]], padding=0)
        assert packed.tokens.tolist() == [[1, 2, 3, 5, 0], [4, 6, 7, 8, 0]]
        assert packed.mask.tolist() == [[False, False, True, True], [True, True, True, True]]
        wider = joined_rows([packed, packed_rows([[1]], [[2, 3, 4, 5, 6, 0]], padding=0)], padding=9)
        assert wider.tokens.tolist()[0] == [1, 2, 3, 5, 0, 9, 9]
        assert wider.mask.sum() == 2 + 4 + 6
        with pytest.raises(BadInput, match="no attempt was kept"):
            packed_rows([], [], 0)

    def test_thinking_kept_or_dropped(self) -> None:
        tokenizer = letter_tokenizer(["0123456789+=# "])
        chains, verdicts = tried([["12#3", "45#6"]], [[0, 1]])
        ids = tokenizer(["12#3", "45#6"])["input_ids"]
        chains.tokens[0, :, :4] = ids
        kept = chosen(chains, verdicts, Choice())
        prompts = [tokenizer("1+1=")["input_ids"]]
        long, short = (learned(kept, chains, prompts, ["6"], tokenizer, thinking) for thinking in ("keep", "drop"))
        assert tokenizer.decode(long.tokens[0]) == "1+1=45#6"
        assert tokenizer.decode(short.tokens[0]) == "1+1=6<|end|>"
        with pytest.raises(BadInput, match="nearest known: drop"):
            learned(kept, chains, prompts, ["6"], tokenizer, "dropp")

    def test_letters(self) -> None:
        tokenizer = letter_tokenizer(["3 7>10:", "3 + 7\n"])
        ids = tokenizer("37 >\n")["input_ids"]
        assert len(ids) == 5
        assert tokenizer.decode(ids) == "37 >\n"
        assert tokenizer.eos_token_id == 0


ADDITION = [Problem(prompt=f"The cache number {n} plus {m} is", answer=str(n + m)) for n in range(9) for m in range(9)]


TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}<|{{ turn.role }}|>{{ turn['content'] | trim }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


class TestChats:
    @pytest.mark.slow
    def test_a_template_reads_as_transformers_reads_it(self, tiny_teacher: Path) -> None:
        tokenizer = load_tokenizer(tiny_teacher)
        tokenizer.chat_template = TEMPLATE
        turns = [[{"role": "user", "content": each.prompt}] for each in ADDITION[:3]]
        alone = [tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True) for each in turns]
        assert encoded_prompts(ADDITION[:3], tokenizer, chat=True) == tokenizer(alone)["input_ids"]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("template", "said"),
        [
            ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "it may loop"),
            ("{{ 'a' * 10**10 }}", "cannot be used: MemoryError"),
            ("{{ 'a' * 2**21 }}", "makes more text"),
            ("{{ raise_exception('only with tools') }}", "cannot be used: only with tools"),
            ("{% for", "cannot be used: "),
            ("{{ ''.__class__.__mro__ }}", "cannot be used: access to attribute"),
            ("x" * 2**20, "has more than 1024 KiB"),
        ],
    )
    def test_templates_that_attack(self, template: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
        longest_s = 2.0 if said == "it may loop" else 600.0  # whose answer a busy machine gives late
        monkeypatch.setattr("flashstill.distill.reasoning.chats.LONGEST_S", longest_s)
        with pytest.raises(BadInput, match=said):
            as_chats(["1 + 1 ="], template, {})


class TestAttempts:
    @pytest.fixture
    def model(self, tiny_teacher: Path) -> Any:
        """In float32: on some machines the rounding of bfloat16 depends on how many rows are read at a time, which is
        enough for another token."""
        return load_model(tiny_teacher, torch.float32)

    @pytest.mark.slow
    def test_killed_and_begun_again_nothing_is_sampled_twice(
        self, model: Any, tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prompts = encoded_prompts(ADDITION, load_tokenizer(tiny_teacher))
        how, asked = Sampling(new_tokens=4, seed=3, stop=(0,)), []
        key = chain_key("model", "tokenizer", ADDITION, 4, how)
        straight = think(model, prompts, 4, how, key, tmp_path / "straight", Silent(), "x")
        monkeypatch.setattr(chains_module, "ROWS_AT_A_TIME", 64)

        def dying(*arguments: Any) -> Any:
            asked.append(len(arguments[1]))
            if len(asked) == 2:
                raise KeyboardInterrupt
            return sample(*arguments)

        monkeypatch.setattr(chains_module, "sample", dying)
        with pytest.raises(KeyboardInterrupt):
            think(model, prompts, 4, how, key, tmp_path / "broken", Silent(), "x")
        resumed = think(model, prompts, 4, how, key, tmp_path / "broken", Silent(), "x")
        assert asked == [64 * 4, 17 * 4, 17 * 4], "the shard that was whole is not made again"
        assert straight is not None
        assert resumed is not None
        assert np.array_equal(straight.tokens, resumed.tokens)
        assert straight.tokens.shape == (81, 4, 4)

    @pytest.mark.slow
    def test_the_first_of_many_attempts_are_those_of_a_run_with_few(
        self, model: Any, tiny_teacher: Path, tmp_path: Path
    ) -> None:
        prompts, how = encoded_prompts(ADDITION[:8], load_tokenizer(tiny_teacher)), Sampling(new_tokens=4, seed=3)
        found = []
        for attempts in (2, 6):
            key = chain_key("model", "tokenizer", ADDITION[:8], attempts, how)
            found.append(think(model, prompts, attempts, how, key, tmp_path / str(attempts), Silent(), "x"))
        few, many = found
        assert few is not None
        assert many is not None
        assert np.array_equal(few.tokens, many.first(2).tokens)

    @pytest.mark.slow
    def test_processes_share_the_work(self, model: Any, tiny_teacher: Path, tmp_path: Path) -> None:
        prompts, how = encoded_prompts(ADDITION, load_tokenizer(tiny_teacher)), Sampling(new_tokens=2)
        key = chain_key("model", "tokenizer", ADDITION, 1, how)
        assert think(model, prompts, 1, how, key, tmp_path / "c", Silent(), "x", (1, 2)) is None
        whole = think(model, prompts, 1, how, key, tmp_path / "c", Silent(), "x", (0, 2))
        assert whole is not None
        other = chain_key("model", "tokenizer", ADDITION[1:], 1, how)
        with pytest.raises(BadInput, match="another problems"):
            think(model, prompts, 1, how, other, tmp_path / "c", Silent(), "x")

    def test_verdicts_are_kept_and_counted_once(self, tmp_path: Path) -> None:
        save_problems(tmp_path / "p.jsonl", ADDITION[:2])
        texts = [["is 0", "is 1", "is 0", "no"], ["# 1", "is 1", "so", "1"]]
        chains, _ = tried([["a"] * 4] * 2, [[0] * 4] * 2)
        spec = Spec(source=str(tmp_path / "p.jsonl"), matcher="numeric")
        for turn in range(2):
            with Judges(spec, tmp_path / "p.jsonl", seconds=120.0) as jury:
                found = judge(
                    chains, texts, Extract(marker="is"), jury, {"of": "these"}, tmp_path / "v", Silent(), "verify"
                )
                assert sum(jury.counts.values()) == (3 if turn == 0 else 0)
        assert found.right.tolist() == [[True, False, True, False], [False, True, False, False]]
        assert found.said.tolist() == [[0, 1, 0, -1], [-1, 1, -1, -1]]
        assert found.counts == {**dict.fromkeys(OUTCOMES, 0), "right": 2, "wrong": 1}


class TestFigures:
    def test_one_pass_and_many(self) -> None:
        chains, verdicts = tried(TEXTS, RIGHT)
        hard = harder_half(verdicts)
        assert hard.tolist() == [False, True, False]
        assert one_pass(chains, verdicts, hard)["value"] == pytest.approx(2 / 3)
        found = many_attempts(chains, verdicts, 0, hard)
        assert list(found["best_of"]) == ["1", "2", "4"]
        assert found["best_of"]["4"]["hard_half"]["value"] == 0.0
        assert found["majority_of"]["4"]["value"] == pytest.approx(2 / 3)
        assert found["best_of"]["4"]["tokens"] == pytest.approx(4 * chains.lengths.mean())
        assert powers_of_two(64)[-1] == 64
        (record,) = quality_records("teacher", {"best_of_4": found["best_of"]["4"]}, "test")
        low, high = ends_of(record)
        assert low < record.value < high
        assert record.value == pytest.approx(2 / 3)


@pytest.mark.slow
def test_a_student_that_goes_on_may_lose_before_it_gains(tmp_path: Path) -> None:
    """A round warms up again from a low loss, which by itself looks like a divergence."""
    tokenizer = letter_tokenizer("abcd")
    packed = packed_rows([[1]] * 8, [[2, 3, 0]] * 8, 0)
    table = LearnTable(steps=40, rows_per_step=8, learning_rate=2e-2, warmup_fraction=0.0)
    net = NetTable(hidden=8, layers=1, heads=2, feed_forward=16)
    model = learn(new_model(net, tokenizer, 8, 0), packed, table, 40, 0, tmp_path / "a", Silent(), "x")
    wild = replace(table, learning_rate=0.5)
    with pytest.raises(BadInput, match="the loss has risen"):
        learn(copy.deepcopy(model), packed, wild, 40, 0, tmp_path / "b", Silent(), "x")
    learn(model, packed, wild, 40, 0, tmp_path / "c", Silent(), "x", goes_on=True)


@pytest.mark.slow
def test_a_study_from_nothing(tmp_path: Path) -> None:
    recipe = read_study(study(tmp_path / "toy.toml"))
    found = run_study(recipe, [0], tmp_path / "out", Silent())
    arms = ["labels", "unverified", "verified-1", "verified-1-epochs", "verified-4"]
    assert list(found["student_greedy"]) == [*arms, "majority-4", "shuffled-4", "round-1", "policy"]
    assert found["student"] == "policy"
    assert set(found["teacher_best_of"]) == {"1", "2", "4"}
    best = [found["teacher_best_of"][count]["value"] for count in ("1", "2", "4")]
    assert best == sorted(best)
    for figures in found["student_greedy"].values():
        assert {"value", "se", "n", "tokens", "hard_half", "rows"} <= set(figures)
        assert figures["n"] == 30
    ledger = found["ledger"]
    assert sum(ledger["verdicts"].values()) == ledger["verifier_calls"] <= 70 * 4
    assert ledger["per_kept_example"]["predicted_usd"] > 0
    assert found["figures"]["gain_over_teacher_greedy"]["bar"] == 0.05
    figures = found["student_greedy"]
    assert figures["verified-4"]["value"] == 1.0
    assert figures["verified-4"]["value"] > found["teacher_best_of"]["1"]["value"] + 0.2, "one pass, and better"
    records = read_records(tmp_path / "out" / "seed-0" / "records.jsonl")
    models = {each.model: each for each in records if isinstance(each, ModelRecord)}
    assert list(models) == ["teacher", *found["student_greedy"]]
    assert (models["labels"].role, models["round-1"].role, models["policy"].role) == ("control", "student", "student")
    assert (models["labels"].of, models["policy"].training_steps) == ("policy", 12)
    assert found["own_attempts"]["policy"]["verifier_calls"] <= 12 * 16 * 4
    assert found["own_attempts"]["round-1"]["tokens_thought"] <= 70 * 4 * 4
    own = found["own_attempts"]["round-1"]
    assert 0 < own["answers_not_learned_before"] <= own["problems_solved"] <= 70
    assert "problems_solved" not in found["own_attempts"]["policy"]
    assert found["figures"]["thousand_tokens_of_policy"]["value"] > 0
    assert models["round-1"].parameters == found["student_params"]
    assert models["round-1"].training_steps == 40
    quality = [each for each in records if isinstance(each, QualityRecord)]
    assert len(quality) == 1 + 3 + 9
    assert {each.model: each.value for each in quality if each.metric == "accuracy"} == {
        "teacher": found["teacher_greedy"]["value"], **{name: each["value"] for name, each in figures.items()},
    }  # fmt: skip
    sizes = {name: found["problems"][name] for name in ("label", "train", "test")}
    assert sizes == {"label": 150, "train": 70, "test": 30}


@pytest.mark.slow
def test_shot_at_any_stage_it_ends_the_same(tmp_path: Path) -> None:
    """SIGKILL at random moments; figures are those of a run that was never touched, and nothing kept is made again."""
    command = [sys.executable, "-m", "flashstill", "run", str(study(tmp_path / "toy.toml")), "--seed", "0", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    straight, shot_at, draw = tmp_path / "straight", tmp_path / "shot", random.Random(0)
    subprocess.run([*command, str(straight)], check=True, capture_output=True, env=environment)
    held: dict[Path, int] = {}
    for _ in range(8):
        process = subprocess.Popen(
            [*command, str(shot_at)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert process.stderr is not None
        for _ in range(draw.randint(2, 7)):  # lines of its stages: each run goes on from the last
            if not process.stderr.readline():
                break
        time.sleep(draw.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        is_over = process.wait() == 0
        process.stderr.close()
        for path, moment in held.items():
            assert path.stat().st_mtime_ns == moment, f"{path} was made again"
        kept = [path for path in shot_at.rglob("chains/windows-*.safetensors") if path.with_suffix(".json").exists()]
        held = {path: path.stat().st_mtime_ns for path in kept}  # with its checksum; without it, it is made again
        if is_over:  # on a fast machine: it begins anew
            shutil.rmtree(shot_at)
            held = {}
    subprocess.run([*command, str(shot_at)], check=True, capture_output=True, env=environment)
    first, second = (json.loads((out / "summary.json").read_text()) for out in (straight, shot_at))
    for name in ("figures", "student_greedy", "teacher_best_of", "ledger"):
        assert first[name] == second[name]


@pytest.mark.slow
def test_a_model_at_hand_is_a_teacher_too(tmp_path: Path, tiny_teacher: Path) -> None:
    teacher = f'[teacher]\nmodel = "{tiny_teacher}"\n'
    path = study(tmp_path / "toy.toml", teacher=teacher, student="keep_layers = 3")
    judge = path.with_name("judge.py")
    judge.write_text("def even(answer, problem):\n    return len(answer) % 2\n")
    path.write_text(path.read_text().replace("rounds = 1", "rounds = 1\nteacher_share = 0.5"))
    found = run_study(read_study(path), [0], tmp_path / "out", Silent())
    assert found["problems"] == {"train": 70, "test": 30}
    kept = [list(place.glob("windows-*.safetensors")) for place in (tmp_path / "out/seed-0/signals").iterdir()]
    assert len(kept) >= 3, "what the teacher says of the rows that were kept"
    assert all(kept)
    assert load_model(tmp_path / "out" / "seed-0" / "students" / "verified-4").config.num_hidden_layers == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("attempts = 4", "attempts = 0", "think.attempts is 0; it must be at least 1"),
        ("attempts = 4", "attemps = 4", "unknown key 'think.attemps'; the nearest known: attempts"),
        ("[student]\n", "[student]\nkeep_layers = 2\n", "student.keep_layers needs a teacher.model"),
        ("[think]", "[think]\ntemperature = 0", "think.temperature is 0; it must be positive"),
        ("[think]", "[think]\nteacher_share = 1.5", "teacher_share is 1.5; it must lie between 0 and 1"),
        ("steps = 12", 'steps = 12\nbaseline = "nromalised"', "nearest known: normalised"),
        ("attempts = 4\nlearning", "attempts = 1\nlearning", "policy.attempts is 1; it must be at least 2"),
        ("rounds = 1", 'arms = ["lables"]', "nearest known: labels"),
        ("rounds = 1", "arms = []", "which think.arms leaves out"),
        ("seeds = 1", "seeds = 1\n[claims]\ngain_over_teacher = 0", "nearest known: gain_over_teacher_greedy"),
        ("label_problems = 150", "label_problems = 0", "needs task.label_problems"),
        ('study = "deep-think"', 'study = "deep-thin"', "nearest known: deep-think"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = study(tmp_path / "toy.toml")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(BadInput, match=said):
        read_study(path)


def test_contaminated_problems_are_refused(tmp_path: Path) -> None:
    recipe = read_study(study(tmp_path / "toy.toml"))
    assert isinstance(recipe, ThinkingStudy)
    drawn = Work(recipe, 0, tmp_path / "out", Silent()).problems
    assert {name: len(problems) for name, problems in drawn.items()} == {"label": 150, "train": 70, "test": 30}
    folder = tmp_path / "out" / "problems"
    (folder / "train.jsonl").write_bytes((folder / "test.jsonl").read_bytes())
    with pytest.raises(BadInput, match="30 of 30 test problems are in the training set too"):
        _ = Work(recipe, 0, tmp_path / "out", Silent()).problems


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deep-think-smollm", "deep-think-smollm-gpu"])  # the others take minutes to draw
def test_a_built_in_task_has_as_many_problems_as_its_recipe_asks_for(name: str, tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    recipe = read_study(recipe_file(name))
    assert isinstance(recipe, ThinkingStudy)
    drawn = Work(recipe, 0, tmp_path, Silent()).problems
    assert [len(drawn[part]) for part in ("train", "test")] == [recipe.task.train_problems, recipe.task.test_problems]


def test_built_in_recipes_are_recipes() -> None:
    for name in (
        "deep-think", "deep-think-policy", "deep-think-palindromes", "deep-think-smollm", "deep-think-smollm-gpu",
        "deep-think-gpu",
    ):  # fmt: skip
        assert read_study(recipe_file(name)).name == name
