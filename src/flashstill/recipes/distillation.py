"""The recipe of one distillation (distill.toml): a student, its teachers, and its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import built, one_of, shaped, sized
from flashstill.errors import BadInput, shortened
from flashstill.recipes import budget, mixture, teachers
from flashstill.recipes.adapter import AdapterRecipe, adapter_problems
from flashstill.recipes.budget import BudgetRecipe
from flashstill.recipes.chat import ChatRecipe, RecordsRecipe, records_problems
from flashstill.recipes.drafts import DraftRecipe, draft_problems
from flashstill.recipes.logs import Loggers
from flashstill.recipes.mixture import SourceRecipe
from flashstill.recipes.ranges import (
    BY_KIND,
    Given,
    LayersOrNone,
    Name,
    NotNegative,
    Positive,
    RowsOrNone,
    Seed,
    ShareOrByKind,
    Source,
    Temperature,
    Width,
    WidthOrNone,
)
from flashstill.recipes.reader import located, read_tree
from flashstill.recipes.regime import RegimeRecipe, regime_problems
from flashstill.recipes.shapes import shape_problems
from flashstill.recipes.signals import SignalRecipe, named_by_directory, signal_problems, with_directory
from flashstill.recipes.spans import ALIGNMENTS, spans_problems, unlike_a_span_loss
from flashstill.recipes.tables import SearchRecipe, TextRecipe
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.recipes.training import TrainTable, training_problems
from flashstill.recipes.validation import ValidationRecipe, validation_problems

STUDENTS = ("depth", "width", "copy", "scratch", "upcycle", "dense", "eagle")
QUANTISED = ("", "int4", "fp8", "ternary")
MEANS = ("arithmetic", "geometric")
DIVERGENCES = ("forward-kl", "reverse-kl", "total-variation")
DIVERGENCES_WITH_SHARE = ("jsd", "skew-kl", "skew-reverse-kl")


def _unlike_a_divergence(name: str) -> str:
    kind, _, share = name.partition(":")
    if not unlike_a_span_loss(name):
        return ""
    if name in DIVERGENCES or (kind in DIVERGENCES_WITH_SHARE and _is_inner_share(share)):
        return ""
    shared = ", ".join(f"{each}:0.1" for each in DIVERGENCES_WITH_SHARE)
    return f"be one of {', '.join(DIVERGENCES)}, {shared}, with a share between 0 and 1 after the colon"


def _unlike_a_kind(name: str) -> str:
    plain = all(letter.isalnum() or letter in "_-" for letter in name)
    return "" if plain and len(name) <= 64 else "be a model_type of transformers, such as qwen3_moe"


def _is_inner_share(text: str) -> bool:
    try:
        return 0.0 < float(text) < 1.0
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class LossRecipe:
    """One divergence of a mix, by name ("forward-kl", "jsd:0.5")."""

    divergence: Annotated[str, shaped(_unlike_a_divergence)] = "forward-kl"
    temperature: Temperature = 1.0
    weight: Positive = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeRecipe:
    """The student. depth: keep_layers of the first teacher's; width: hidden, feed_forward, key_heads, and of an MoE
    experts and expert_neurons, 0 for all; copy: the first teacher itself; scratch: the config.json at `config`;
    upcycle: experts of expert_neurons each, some of them shared; dense: an MoE teacher without its experts.  model:
    the model it is made from, if not the first teacher; base: the base of that model if it is a LoRA adapter;
    tokenizer: of a student of kind scratch, if not the teacher's.
    into: the model_type that an upcycled or a dense student becomes, by default the nearest relative.
    balance_rate: of the routers' correction biases, balance_loss: coefficient of an auxiliary loss, both negative (not
    given) for upcycled students only, whose routers are new.
    quantise: the weight format of quantisation-aware training, with one scale per group; empty for none.
    compensate_windows: windows of training text to calibrate the initial weights of an int4 copy (GPTQ); 0: the
    teacher's own weights."""

    kind: Annotated[str, one_of(STUDENTS)] = "depth"
    model: Source = ""
    tokenizer: Source = ""
    base: Source = ""
    keep_layers: LayersOrNone = 0
    hidden: WidthOrNone = 0
    feed_forward: WidthOrNone = 0
    key_heads: WidthOrNone = 0
    config: Source = ""
    experts: WidthOrNone = 0
    experts_per_token: WidthOrNone = 0
    shared_experts: WidthOrNone = 0
    expert_neurons: WidthOrNone = 0
    into: Annotated[str, shaped(_unlike_a_kind)] = ""
    balance_rate: ShareOrByKind = BY_KIND
    balance_loss: ShareOrByKind = BY_KIND
    quantise: Annotated[str, one_of(QUANTISED)] = ""
    group: Width = 64
    compensate_windows: RowsOrNone = 0
    adapter: AdapterRecipe = field(default_factory=AdapterRecipe)


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillRecipe:
    """One student. mean: how several teachers are averaged; align: "spans" for a student with another tokenizer;
    hard_weight: weight of the cross-entropy to the text.

    losses: empty, with a hard_weight, for a student that learns from the text alone.  log: names of loggers that get
    the metrics of training."""

    name: Name
    teachers: Annotated[tuple[TeacherRecipe, ...], sized(1, 64)]
    data: Given = "cpython-docs"
    mixture: Annotated[tuple[SourceRecipe, ...], sized(0, 64)] = ()
    out_of_domain: Source = ""
    log: Loggers = ()
    seed: Seed = 0
    mean: Annotated[str, one_of(MEANS)] = "arithmetic"
    align: Annotated[str, one_of(ALIGNMENTS)] = ""
    hard_weight: NotNegative = 0.0
    student: ShapeRecipe = field(default_factory=ShapeRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    records: RecordsRecipe = field(default_factory=RecordsRecipe)
    chat: ChatRecipe = field(default_factory=ChatRecipe)
    search: SearchRecipe = field(default_factory=SearchRecipe)
    signals: SignalRecipe = field(default_factory=SignalRecipe)
    losses: Annotated[tuple[LossRecipe, ...], sized(0, 16)] = (LossRecipe(),)
    regime: RegimeRecipe = field(default_factory=RegimeRecipe)
    draft: DraftRecipe = field(default_factory=DraftRecipe)
    train: TrainTable = field(default_factory=TrainTable)
    validation: ValidationRecipe = field(default_factory=ValidationRecipe)
    budget: BudgetRecipe = field(default_factory=BudgetRecipe)

    @property
    def sources(self) -> tuple[str, ...]:
        """The training texts: each specialist's own, those of the mixture, or `data`."""
        own = tuple(teacher.data for teacher in self.teachers if teacher.data)
        return own or tuple(each.source for each in self.mixture) or (self.data,)

    @property
    def weights(self) -> tuple[float, ...]:
        """The share of each training text, not normalised."""
        return tuple(each.weight for each in self.mixture) or (1.0,) * len(self.sources)

    @property
    def routed(self) -> bool:
        """Whether each teacher has its own text."""
        return any(teacher.data for teacher in self.teachers)


def read_distillation(path: Path) -> DistillRecipe:
    """Read and check a distill.toml. Paths in it are taken from the directory of the file.

    Raises BadInput naming the key that is wrong.
    """
    tree, shown = read_tree(path), shortened(str(path), 200)
    if "student" not in tree and (key := next((key for key in ("students", "study") if key in tree), "")):
        kind = "a family of students" if key == "students" else "a study"
        raise BadInput(f"{shown} is the recipe of {kind} (it has {key}): flashstill run {shown} runs it")
    recipe = built(DistillRecipe, named_by_directory(tree), shown)
    for problem in problems(recipe):
        raise BadInput(f"{path}: {problem}")
    return _with_paths(recipe, path)


def problems(recipe: DistillRecipe) -> Iterator[str]:
    """Errors in a recipe, as sentences."""
    if recipe.student.compensate_windows and (recipe.student.kind, recipe.student.quantise) != ("copy", "int4"):
        yield "student.compensate_windows is for students of kind copy that quantise to int4"
    yield from shape_problems(recipe.student)
    is_served = any(teacher.served for teacher in recipe.teachers)
    yield from budget.problems(recipe.budget, recipe.student.kind, is_served)
    if recipe.regime.kind != "offline" and recipe.budget.is_set:
        yield f"a budget knows the text as it is only: regime.kind must be offline, not {recipe.regime.kind}"
    if recipe.student.kind == "depth" and recipe.student.keep_layers < (0 if recipe.budget.is_set else 1):
        yield "student.keep_layers must say how many layers a student of kind depth keeps, or a [budget] must choose"
    if recipe.student.kind == "scratch" and not recipe.student.config:
        yield "student.config must name a config.json for a student of kind scratch"
    if recipe.student.kind == "scratch" and recipe.student.model:
        yield "a student of kind scratch begins with nothing: leave student.model out, or choose kind copy"
    if recipe.student.base and not recipe.student.model:
        yield "student.base is the base of the adapter that student.model names; give both"
    yield from teachers.problems(recipe)
    with_data = sum(bool(teacher.data) for teacher in recipe.teachers)
    if 0 < with_data < len(recipe.teachers):
        yield "either every teacher has data of its own (specialists) or none (an ensemble)"
    yield from signal_problems(recipe.signals)
    if recipe.signals.kind in ("sampled", "topk"):
        if len(recipe.teachers) > 1:
            yield f"signals of kind {recipe.signals.kind} know one teacher; several need kind hidden or none"
        if any(loss.temperature != 1.0 or loss.divergence != "forward-kl" for loss in recipe.losses):
            yield f"signals of kind {recipe.signals.kind} know the forward KL at temperature 1 only; use kind hidden"
    if not recipe.losses and not recipe.hard_weight:
        yield "losses is empty and hard_weight is 0: there is nothing to learn; give one of them"
    yield from records_problems(recipe.records)
    yield from adapter_problems(recipe)
    yield from spans_problems(recipe)
    yield from mixture.problems(recipe.mixture, recipe.routed, recipe.align)
    if any(teacher.prompted for teacher in recipe.teachers):
        if recipe.chat.learn == "all":
            yield "teachers.system is not seen by the student, who cannot learn all of a conversation: set chat.learn"
        if recipe.mixture:
            yield "teachers.system does not go with a mixture of sources yet; give one as data"
        if recipe.align:
            yield f"teachers.system does not go with align = {recipe.align!r} yet; use students of its tokenizer"
        if (regime := recipe.regime.kind) != "offline":
            yield f"teachers.system is for conversations as they are: regime.kind must be offline, not {regime}"
    yield from training_problems(recipe.train)
    yield from regime_problems(recipe)
    yield from draft_problems(recipe)
    yield from validation_problems(recipe)


def with_paths(table: Any, where: Path, prefix: str, *keys: str) -> Any:
    """A table whose `keys` are made absolute if they name a path relative to the file `where`; prefix: for messages."""
    absolute = {key: located(getattr(table, key), where.parent, where, prefix + key) for key in keys}
    return dataclasses.replace(table, **absolute)


def _with_paths(recipe: DistillRecipe, where: Path) -> DistillRecipe:
    teachers = (
        with_paths(teacher, where, f"teachers[{place}].", "model", "data", "tokenizer", "base", "system_file")
        for place, teacher in enumerate(recipe.teachers)
    )
    student = with_paths(recipe.student, where, "student.", "config", "model", "tokenizer", "base")
    sources = tuple(
        with_paths(each, where, f"mixture[{place}].", "source") for place, each in enumerate(recipe.mixture)
    )
    placed: DistillRecipe = with_paths(recipe, where, "", "data", "out_of_domain")
    placed = dataclasses.replace(placed, mixture=sources)
    chat = with_paths(recipe.chat, where, "chat.", "template")
    signals = with_directory(recipe.signals, where, "signals.dir")
    return dataclasses.replace(placed, teachers=tuple(teachers), student=student, chat=chat, signals=signals)
