"""The directory of one seed: problems, teacher, attempts and verdicts; existing ones are read back."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.errors import BadInput
from flashstill.files import remove_leftovers
from flashstill.progress import Progress
from flashstill.recipes.thinking import ThinkingStudy
from flashstill.studies.deep_think.models import learn, new_model

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.models.arithmetic import Arithmetic
    from flashstill.distill.reasoning.chains import Chains, Verdicts
    from flashstill.distill.reasoning.judging import Judges
    from flashstill.distill.reasoning.matching import Extract
    from flashstill.distill.reasoning.problems import Problem
    from flashstill.distill.reasoning.spec import Spec

LONGEST_SLACK = 8  # context length of a from-scratch model: the longest row plus this


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempted:
    """Chains, the verdicts on them, and the chains as text."""

    chains: Chains
    verdicts: Verdicts
    texts: Sequence[Sequence[str]]


class Work:
    """The state that the stages of one seed share."""

    def __init__(self, recipe: ThinkingStudy, seed: int, out: Path, progress: Progress) -> None:
        remove_leftovers(out)
        self.recipe, self.seed, self.out, self.progress = recipe, seed, out, progress
        self._judges: dict[str, Judges] = {}

    def __enter__(self) -> Work:
        self.progress.say(f"models run in {self.arithmetic}")
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._judges.values():
            each.close()

    def judges(self, name: str) -> Judges:
        """The judges of "train" or "test" problems; their processes run until the work ends."""
        from flashstill.distill.reasoning.judging import Judges

        if name not in self._judges:
            path = self.out / "problems" / f"{name}.jsonl"
            self._judges[name] = Judges(self.task, path, seconds=self.recipe.task.judge_seconds)
        return self._judges[name]

    @functools.cached_property
    def task(self) -> Spec:
        """The task with this seed's problems."""
        from flashstill.distill.reasoning.spec import Spec

        wanted = self.recipe.task
        names = ("source", "data", "options", "prompt", "matcher")
        return Spec(**{name: getattr(wanted, name) for name in names}, seed=self.seed)

    @property
    def extract(self) -> Extract:
        """How to find the answer in a chain."""
        from flashstill.distill.reasoning.matching import Extract

        return Extract(marker=self.recipe.task.marker, part=self.recipe.task.part)

    @functools.cached_property
    def problems(self) -> dict[str, list[Problem]]:
        """ "label", "train" and "test" problems; those read from disk are checked again for overlap."""
        from flashstill.distill.reasoning.problems import check_disjoint, load_problems, save_problems
        from flashstill.distill.reasoning.tasks import problem_sets

        wanted, folder = self.recipe.task, self.out / "problems"
        labels = 0 if self.recipe.teacher.model else wanted.label_problems
        if not (folder / "test.jsonl").exists():
            training, test = problem_sets(
                self.task, labels + wanted.train_problems, wanted.test_problems, self.progress
            )
            save_problems(folder / "train.jsonl", training[labels:])
            if labels:
                save_problems(folder / "label.jsonl", training[:labels])
            save_problems(folder / "test.jsonl", test)
        names = ("label", "train", "test") if labels else ("train", "test")
        found = {name: load_problems(folder / f"{name}.jsonl") for name in names}
        check_disjoint([each for name in names[:-1] for each in found[name]], found["test"])
        return found

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The teacher's tokenizer; of single characters if it is trained from scratch."""
        from flashstill.distill.models import load_tokenizer
        from flashstill.distill.reasoning.letters import letter_tokenizer

        if self.recipe.teacher.model:
            return load_tokenizer(self.teacher_directory)
        known = [each for problems in self.problems.values() for each in problems]
        return letter_tokenizer(text for each in known for text in (each.prompt, each.answer))

    @functools.cached_property
    def teacher_directory(self) -> Path:
        """The teacher's directory, which may not exist yet; of a served one, that of tokenizer and config.json."""
        from flashstill.distill.teachers import resolve_teacher, resolve_tokenizer

        given = self.recipe.teacher
        if given.served:
            return resolve_tokenizer(given.tokenizer, self.progress)
        return resolve_teacher(given.model, self.progress) if given.model else self.out / "teacher"

    @functools.cached_property
    def teacher(self) -> Any:
        """The teacher, or its server; one from scratch is first trained on the right answers of the label problems."""
        from flashstill.distill.models import save_model
        from flashstill.distill.teachers.served import Server

        given = self.recipe.teacher
        if given.served:
            return Server(base=given.model, name=given.name, in_flight=given.in_flight, time_limit_s=given.time_limit_s)
        if not self.teacher_directory.is_dir():
            packed = self.labelled("label")
            model = new_model(self.recipe.teacher, self.tokenizer, self.positions, self.seed)
            table = self.recipe.teach
            folder = self.out / "training" / "teacher"
            learn(model, packed, table, table.steps, self.seed, folder, self.progress, "train the teacher")
            save_model(model, self.tokenizer, self.teacher_directory)
        return self.loaded(self.teacher_directory)

    @property
    def teacher_known_as(self) -> str:
        """The fingerprint of its weights, which must exist; its name if it is served."""
        from flashstill.distill.models import fingerprint
        from flashstill.distill.teachers.served import known_model

        _ = self.teacher
        given = self.recipe.teacher
        return known_model(given.name) if given.served else fingerprint(self.teacher_directory)

    def loaded(self, place: Path) -> Any:
        """A model from a directory, in the arithmetic of the study."""
        from flashstill.distill.models import load_model

        return load_model(place, self.arithmetic.dtype)

    @functools.cached_property
    def arithmetic(self) -> Arithmetic:
        """fp32 if the models of the study are small and trained from scratch; else the recipe's, or the faster one."""
        from flashstill.distill.models.arithmetic import FILE, settled, shape_of
        from flashstill.distill.models.product_speed import Shape

        teacher = self.recipe.teacher
        if not teacher.model and self.recipe.arithmetic == "bf16":
            raise BadInput("models trained from scratch are small and run in fp32 arithmetic; leave bf16 out")
        precision = self.recipe.arithmetic if teacher.model else "fp32"
        net = Shape(width=self.recipe.teacher.hidden, feed_forward=self.recipe.teacher.feed_forward)
        return settled(precision, lambda: shape_of(self.teacher_directory) if teacher.model else net, self.out / FILE)

    @functools.cached_property
    def positions(self) -> int:
        """Context length of models trained from scratch."""
        longest = max(len(row) for name in self.problems for row in self.prompts(name))
        labels = max(
            (len(self.tokenizer(each.answer)["input_ids"]) for each in self.problems.get("label", [])), default=0
        )
        return longest + max(self.recipe.think.new_tokens, labels + 1) + LONGEST_SLACK

    @functools.cache  # noqa: B019 - one object a seed, gone with it
    def prompts(self, name: str) -> list[list[int]]:
        """Token ids of the prompts of "label", "train" or "test"."""
        from flashstill.distill.reasoning.chains import encoded_prompts

        return encoded_prompts(self.problems[name], self.tokenizer, self.recipe.task.chat)

    def labelled(self, name: str) -> Packed:
        """Prompts with their right answers, as training rows."""
        from flashstill.distill.reasoning.choosing import packed_rows

        end, answers = self.tokenizer.eos_token_id, [each.answer for each in self.problems[name]]
        marker = self.recipe.task.marker
        encoded = self.tokenizer([marker + answer for answer in answers], add_special_tokens=False)["input_ids"]
        return packed_rows(self.prompts(name), [[*ids, end] for ids in encoded], end)

    def signals(self, packed: Packed) -> Any:
        """The teacher's exact signals on packed rows; None if the recipe has no divergence to the teacher."""
        from flashstill.distill.models import tokenizer_fingerprint
        from flashstill.distill.signals import Hidden, Signals, build, signal_key

        if not self.recipe.think.teacher_share:
            return None
        key = signal_key(Hidden(), self.teacher_known_as, tokenizer_fingerprint(self.teacher_directory), packed)
        place = self.out / "signals" / packed.hash[:16]
        build(self.teacher, Hidden(), key, packed, place, self.progress, "what the teacher says of them")
        return Signals(place, key, self.arithmetic.dtype)

    def attempted(self, model: Any, known_as: str, name: str, attempts: int, greedy: bool = False) -> Attempted:
        """Attempts of a model or a server at the problems of `name`, and verdicts. known_as: key of the model."""
        from flashstill.distill.generate import Sampling
        from flashstill.distill.models import tokenizer_fingerprint
        from flashstill.distill.reasoning.chains import chain_key, judge, think
        from flashstill.distill.reasoning.served import think_served
        from flashstill.distill.teachers.served import Server
        from flashstill.evaluate.problems import answer_texts

        wanted, problems = self.recipe.think, self.problems[name]
        how = Sampling(
            new_tokens=wanted.new_tokens, temperature=0.0 if greedy else wanted.temperature,
            top_p=1.0 if greedy else wanted.top_p, stop=(self.tokenizer.eos_token_id,), seed=self.seed,
            vocabulary=len(self.tokenizer), batch=wanted.rows_at_a_time,
        )  # fmt: skip
        key = chain_key(known_as, tokenizer_fingerprint(self.teacher_directory), problems, attempts, how)
        short = re.sub(r"[^A-Za-z0-9.-]+", "-", known_as.removeprefix("served: "))[-16:]
        place = self.out / "attempts" / f"{short}-{name}-{'greedy' if greedy else attempts}"
        label = f"{'greedy pass' if greedy else f'{attempts} attempts'} at {name} problems"
        prompts, folder = self.prompts(name), place / "chains"
        if isinstance(model, Server):
            chains = think_served(model, prompts, attempts, how, self.tokenizer, key, folder, self.progress, label)
        else:
            whole = think(model, prompts, attempts, how, key, folder, self.progress, label)
            assert whole is not None, "no other process has a share of it"
            chains = whole
        texts = answer_texts(chains, self.tokenizer)
        judged_by = {"chains": key, "task": self.task.key, "extract": asdict(self.extract)}
        verdicts = judge(
            chains, texts, self.extract, self.judges(name), judged_by, place / "verdicts", self.progress, "verify"
        )
        return Attempted(chains=chains, verdicts=verdicts, texts=texts)
