"""The recipe of a deep-think study: a task, a teacher that samples many attempts, students of its right answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import between, one_of, sized
from flashstill.errors import unknown
from flashstill.recipes.ranges import (
    Context,
    ContextOrNone,
    Count,
    Decay,
    Given,
    Layers,
    LayersOrNone,
    NotNegative,
    Prose,
    Rate,
    Rows,
    RowsOrNone,
    Seconds,
    Share,
    Source,
    Temperature,
    TopP,
    Whole,
    Width,
)
from flashstill.recipes.reader import located
from flashstill.recipes.study import StudyRecipe
from flashstill.recipes.teachers import is_address, misaddressed

MATCHERS = ("exact", "numeric", "expression")
PARTS = ("all", "line", "number")
PREFERENCES = ("likeliest", "shortest")
THINKING = ("keep", "drop")
Claimed = Annotated[float, between(-1, 1000)]  # no share falls by more than 1
ARMS = ("labels", "unverified", "fewer", "epochs", "majority", "shuffled")
BASELINES = ("leave-one-out", "normalised")
REWARDS = ("right", "score")
CLAIMS: Mapping[str, float] = {"gain_over_teacher_greedy": 0.05, "standard_errors_over_unverified": 3.0}
CLAIMABLE = (*CLAIMS, "standard_errors_over_teacher_greedy", "gain_over_teacher_best_of_4", "gain_over_unverified")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRecipe:
    """source: gym:NAME, FILE.jsonl or FILE.py:FUNCTION (with `data`); options: of the gym's family; prompt: a format
    string of its fields. marker: text before the answer in a chain; part: which part of the text after it is the answer
    (all, the first line or the last number). matcher: how the answers of a file are judged; "expression", which makes
    `target` of `numbers`, is for a gym as well. chat: whether prompts use the model's chat template.

    label_problems: number of problems to train a teacher from scratch on; train_problems: number it attempts.
    """

    source: Given
    data: Source = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: Prose = ""
    matcher: Annotated[str, one_of(MATCHERS)] = "exact"
    marker: Annotated[str, sized(0, 256)] = ""
    part: Annotated[str, one_of(PARTS)] = "all"
    chat: bool = False
    label_problems: Whole = 20_000
    train_problems: Count = 8_000
    test_problems: Count = 2_000
    judge_seconds: Seconds = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class NetTable:
    """A Llama-like model trained from scratch; or `model`, a directory or a known name; or, for a student,
    keep_layers of the teacher's layers."""

    model: Source = ""
    keep_layers: LayersOrNone = 0
    hidden: Width = 128
    layers: Layers = 4
    heads: Width = 4
    feed_forward: Width = 384


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherTable(NetTable):
    """The model that attempts the problems. For an OpenAI-compatible server `model` is its URL, up to /v1; name: of the
    model on the server; tokenizer: a directory with its tokenizer and config.json; in_flight: concurrent requests;
    time_limit_s: per request."""

    name: Source = ""
    tokenizer: Source = ""
    in_flight: Rows = 8
    time_limit_s: Seconds = 300.0

    @property
    def served(self) -> bool:
        """Whether it is behind a server."""
        return is_address(self.model)

    def problems(self) -> Iterator[str]:
        """What cannot be meant."""
        if self.keep_layers:
            yield "teacher.keep_layers means nothing: a teacher is trained from scratch or is a whole model"
        yield from misaddressed(self, "teacher")


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnTable:
    """Training on rows of text. steps: the same for all arms of a study, except in comparisons of equal epochs.
    micro_windows: most rows of a forward and backward pass, 0 for all of a step; passes are of equal size."""

    steps: Count = 2_000
    rows_per_step: Rows = 256
    micro_windows: RowsOrNone = 0
    learning_rate: Rate = 2e-3
    weight_decay: Decay = 0.01
    warmup_fraction: Share = 0.05
    checkpoint_every_steps: Count = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkTable:
    """Sampling of attempts and choice of chains. most: chains kept per problem; prefer: the "likeliest" or "shortest";
    budget: longest chain kept in tokens, 0 for any; thinking: "keep" or "drop"; teacher_share: weight of the forward KL
    to the teacher in the loss, the rest is cross-entropy; rounds: rounds of self-training, in which the student samples
    attempts and learns from its right ones. test_attempts: of the teacher and the last student at test problems;
    round_attempts: of the student in a round; 0: as many as `attempts`. rows_at_a_time: texts that are sampled at a
    time, which is for memory and speed: more on a GPU. arms: what is trained beside the student of all
    verified attempts; "fewer": those of 1, 4, 16, ... attempts for equal steps, "epochs": for equal epochs."""

    attempts: Rows = 64
    test_attempts: RowsOrNone = 0
    new_tokens: Context = 32
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    most: RowsOrNone = 1
    prefer: Annotated[str, one_of(PREFERENCES)] = "likeliest"
    budget: ContextOrNone = 0
    thinking: Annotated[str, one_of(THINKING)] = "keep"
    teacher_share: Share = 0.0
    rounds: Annotated[int, between(0, 100)] = 0
    round_attempts: RowsOrNone = 0
    rows_at_a_time: Rows = 256
    arms: Annotated[tuple[Annotated[str, one_of(ARMS)], ...], sized(0, len(ARMS))] = ARMS


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyTable:
    """Policy gradient on the last student's own attempts, with the verifier's rewards (distill/reasoning/rewarded.py).
    steps: 0 for none. Each step the student makes `attempts` at each of `problems_per_step` problems. kl: weight of the
    KL to the weights that it began with; steps have a constant rate but for a warm-up and a linear decay at the end.
    micro_windows: most attempts of a forward and backward pass, 0 for all of a step."""

    steps: Whole = 0
    problems_per_step: Rows = 64
    attempts: Annotated[int, between(2, 2**20)] = 8
    micro_windows: RowsOrNone = 0
    baseline: Annotated[str, one_of(BASELINES)] = "leave-one-out"
    reward: Annotated[str, one_of(REWARDS)] = "right"
    learning_rate: Rate = 1e-3
    kl: NotNegative = 0.0
    warmup_fraction: Share = 0.05
    decay_fraction: Share = 0.5
    checkpoint_every_steps: Count = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkingStudy(StudyRecipe):
    """Arms learn from the chains of 1, 4, 16, ... attempts, both for equal steps (learn.steps) and for equal epochs: as
    many as the arm with all attempts takes in these steps. chip: whose prices the ledger uses. claims: figures and
    their least values, judged by their intervals over the seeds."""

    task: TaskRecipe
    chip: Given
    teacher: TeacherTable = field(default_factory=TeacherTable)
    student: NetTable = field(default_factory=lambda: NetTable(hidden=64, layers=2, heads=4, feed_forward=160))
    teach: LearnTable = field(default_factory=LearnTable)
    learn: LearnTable = field(default_factory=LearnTable)
    think: ThinkTable = field(default_factory=ThinkTable)
    policy: PolicyTable = field(default_factory=PolicyTable)
    claims: Mapping[str, Claimed] = field(default_factory=lambda: dict(CLAIMS))

    def problems(self) -> Iterator[str]:
        """What cannot be meant."""
        yield from self.teacher.problems()
        if self.student.keep_layers and (not self.teacher.model or self.teacher.served):
            yield "student.keep_layers needs a teacher.model at hand to keep layers of"
        if not self.teacher.model and self.task.label_problems < 1:
            yield "a teacher trained from scratch needs task.label_problems"
        for name in self.claims:
            if name not in CLAIMABLE:
                yield unknown("figure of claims", name, CLAIMABLE)
        if "unverified" not in self.think.arms and any("unverified" in name for name in self.claims):
            yield 'claims compare with the arm "unverified", which think.arms leaves out'
        if "gain_over_teacher_best_of_4" in self.claims and (self.think.test_attempts or self.think.attempts) < 4:
            yield "claims of the teacher's best of 4 need at least 4 attempts at test problems"
        if self.think.teacher_share and self.teacher.served:
            yield "think.teacher_share needs a teacher at hand; one behind a server gives text only"
        for name, net in (("teacher", self.teacher), ("student", self.student)):
            if not (net.model or net.keep_layers) and net.hidden % (2 * net.heads):
                yield f"{name}.hidden is {net.hidden}, which {net.heads} heads of an even size do not fill"

    def models(self) -> Mapping[str, str]:
        """Teacher and student, unless they are trained here; of a served teacher the directory of its tokenizer."""
        teacher = (
            {"teacher.tokenizer": self.teacher.tokenizer}
            if self.teacher.served
            else {"teacher.model": self.teacher.model}
        )
        named = {**teacher, "student.model": self.student.model}
        return {key: value for key, value in named.items() if value}

    def located(self, where: Path) -> ThinkingStudy:
        """The recipe with task files and models relative to the recipe file's directory, if they exist there."""

        def absolute(table: Any, prefix: str, *keys: str) -> Any:
            return replace(table, **{key: _located(getattr(table, key), where, prefix + key) for key in keys})

        return replace(
            self,
            task=absolute(self.task, "task.", "source", "data"),
            teacher=absolute(self.teacher, "teacher.", "model", "tokenizer"),
            student=absolute(self.student, "student.", "model"),
        )


def _located(value: str, where: Path, key: str) -> str:
    """Make a path (or PATH:FUNCTION) relative to the file `where` absolute."""
    path, colon, function = value.rpartition(":") if ".py:" in value else (value, "", "")
    return f"{located(path, where.parent, where, key)}{colon}{function}"
