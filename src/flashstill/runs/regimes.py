"""Regimes: a student learns from the packed text, its own samples (on-policy), or its teacher's (sequence-level)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.arch.adapter.sizes import VOCABULARY, size
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.runs.workdir import Workdir

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.generate import Sampling
    from flashstill.distill.teachers.sequence_level import Continuations
    from flashstill.distill.teachers.served import ServedStudent
    from flashstill.distill.training import Objective, Source, TeacherSource, TrainRecipe, World


def asks_teachers(recipe: DistillRecipe) -> bool:
    """Whether training needs the teachers' outputs on the text; if not, the loss is cross-entropy to the text alone."""
    return bool(recipe.losses) and (recipe.regime.kind != "sequence" or recipe.regime.soft)


def objective_of(recipe: DistillRecipe, teacher: TeacherSource) -> Objective:
    """The recipe's losses to the teacher; cross-entropy to the text if there are none."""
    from flashstill.distill.losses import span_divergence
    from flashstill.distill.training import Soft, distillation, hard

    if not recipe.losses:
        return hard
    soft = [
        Soft(divergence=span_divergence(loss.divergence), temperature=loss.temperature, weight=loss.weight)
        for loss in recipe.losses
    ]
    return distillation(teacher, soft, recipe.hard_weight)


def train_recipe_of(recipe: DistillRecipe) -> TrainRecipe:
    """The training loop's settings; the arithmetic is that of the model passed to it."""
    from flashstill.distill.training import TrainRecipe

    given = asdict(recipe.train)
    for name in ("arithmetic", "device"):  # of the model that is passed to the loop
        given.pop(name)
    return TrainRecipe(**given, seed=recipe.seed)


def source_of(
    recipe: DistillRecipe,
    packed: Packed,
    tokenizer: Any,
    vocabulary: int,
    world: World,
    workdir: Workdir,
    progress: Progress,
    student: Any,
) -> Source:
    """The source of batches; vocabulary: number of ids that student and teacher share.

    student: the model to train; where it samples itself and can only do so slowly, that is said.
    """
    from flashstill.distill.generate import note_on_cache
    from flashstill.distill.training import Mixing, Offline, OnPolicy

    regime, per_step = recipe.regime, recipe.train.windows_per_step
    if regime.kind != "on-policy":
        return Offline(packed, per_step, recipe.seed)
    mixing = Mixing(
        mix=regime.mix, replay=regime.replay, buffer=regime.buffer, every=regime.every,
        prompt_tokens=regime.prompt_tokens,
    )  # fmt: skip
    sampling = _sampling(recipe, packed, tokenizer, vocabulary)
    sampler = (
        _served_student(recipe, tokenizer, sampling, workdir.rollouts, progress) if regime.rollouts.server else None
    )
    if sampler is None and (note := note_on_cache(student)):
        progress.say(note)
    return OnPolicy(packed, per_step, recipe.seed, mixing, sampling, world, sampler)


def _served_student(
    recipe: DistillRecipe, tokenizer: Any, sampling: Sampling, folder: Path, progress: Progress
) -> ServedStudent:
    from flashstill.distill.teachers.served import ServedStudent, Server

    asked = recipe.regime.rollouts
    server = Server(base=asked.server, name=asked.name, in_flight=asked.in_flight, time_limit_s=asked.time_limit_s)
    return ServedStudent(server, tokenizer, sampling, folder, progress)


def _sampling(recipe: DistillRecipe, packed: Packed, tokenizer: Any, vocabulary: int) -> Sampling:
    """Sampling settings: rows end at the end-of-text id or the token that ends an answer of the packed conversations,
    and ids of padded heads beyond the tokenizer are excluded."""
    from flashstill.distill.data.prompts import ends_of_turns
    from flashstill.distill.data.templates import special_ids
    from flashstill.distill.generate import Sampling

    ends = {int(tokenizer.eos_token_id), *ends_of_turns(packed, list(special_ids(tokenizer)))}
    regime = recipe.regime
    return Sampling(
        new_tokens=regime.new_tokens_in(recipe.text.window_tokens), temperature=regime.temperature, top_p=regime.top_p,
        top_k=regime.top_k, stop=tuple(sorted(ends)), vocabulary=min(vocabulary, len(tokenizer)),
        batch=regime.batch, seed=recipe.seed,
    )  # fmt: skip


class TeacherText:
    """The first teacher's continuations of the prompts in `packed`: made in shards, then joined into a packed text."""

    def __init__(
        self,
        recipe: DistillRecipe,
        workdir: Workdir,
        packed: Packed,
        directory: Path,
        fingerprints: tuple[str, str],
    ) -> None:
        """directory: of the teacher; fingerprints: of the teacher and of its tokenizer."""
        self.recipe, self.packed = recipe, packed
        self.shards, self._whole = workdir.text, workdir.packing(workdir.sequence)
        self.directory, self.fingerprints = directory, fingerprints

    def _asked(self) -> tuple[Continuations, dict[str, Any]]:
        from flashstill.distill.models import load_tokenizer
        from flashstill.distill.models.directories import check_directory
        from flashstill.distill.teachers.sequence_level import Continuations, text_key

        tokenizer, known = load_tokenizer(self.directory), size(check_directory(self.directory), VOCABULARY)
        regime, sampling = self.recipe.regime, _sampling(self.recipe, self.packed, tokenizer, known)
        continuations = Continuations(prompt_tokens=regime.prompt_tokens, samples=regime.samples, sampling=sampling)
        return continuations, text_key(*self.fingerprints, self.packed, continuations)

    def write(self, model: Callable[[], Any], progress: Progress, share: tuple[int, int]) -> dict[str, Any]:
        """Generate a share of the text, unless all of it exists; returns bytes and rates."""
        from flashstill.distill.generate import note_on_cache
        from flashstill.distill.teachers.sequence_level import write_text

        if self._whole.exists():
            return {}
        continuations, key = self._asked()
        name = Path(self.recipe.teachers[0].model).name
        label = f"text of {name}" + (f", share {share[0]}/{share[1]}" if share[1] > 1 else "")
        teacher = model()
        if note := note_on_cache(teacher):
            progress.say(note)
        built = write_text(teacher, self.packed, continuations, key, self.shards, progress, label, share)
        speed = round(built.tokens / built.seconds, 1) if built.tokens else None
        per_token = round(
            built.bytes / (self.packed.windows * continuations.samples * continuations.sampling.new_tokens), 2
        )
        return {
            f"text of {name}": {**asdict(built), "kind": "text", "tokens_per_s": speed, "bytes_per_token": per_token}
        }

    def join(self, progress: Progress) -> None:
        """Join all shards into one packed text, or report which are missing."""
        from flashstill.distill.teachers.sequence_level import missing_shards, text_of

        if self._whole.exists():
            return
        continuations, key = self._asked()
        lacking = missing_shards(self.packed, continuations, key, self.shards)
        if lacking:
            progress.say(f"{lacking} shards of the text are still to be made; signals follow when it is whole")
            return
        text_of(self.packed, continuations, key, self.shards).save(self._whole)
