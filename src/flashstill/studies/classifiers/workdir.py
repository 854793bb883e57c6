"""Where the parts of a study of classifiers work: one seed's data, the nets it has trained, their accuracies.

DIR/nets/NAME.safetensors    a net, or several of one shape trained side by side; read back where it is there
"""

from __future__ import annotations

import copy
import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flashstill.distill.classifiers.data import Labelled
from flashstill.distill.classifiers.fitting import Fit, Loss, fit
from flashstill.distill.classifiers.inputs import Inputs, inputs, scale_of
from flashstill.distill.classifiers.nets import Nets, logits_of
from flashstill.distill.classifiers.targets import hard, said, soft
from flashstill.distill.classifiers.transfer import Transfer, Variants, transfer_set
from flashstill.distill.models import STORED
from flashstill.errors import BadInput
from flashstill.files import replacing
from flashstill.progress import Progress
from flashstill.recipes.classifiers import ClassifierStudy, NetTable, VariantsTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What nets learn. per_pass: examples of an epoch, all of `inputs` where it is None."""

    inputs: Inputs
    loss: Loss
    per_pass: int | None = None


@dataclass(frozen=True, kw_only=True)
class Workdir:
    """train and test: what nets see; labels [N] and test_labels [N']; classes: C; dtype: what nets are multiplied in.

    Variants, and what teachers say of them, are made when the first net is to learn from them.
    """

    recipe: ClassifierStudy
    train: Inputs
    labels: Tensor
    test: Inputs
    test_labels: Tensor
    classes: int
    seed: int
    place: Path
    progress: Progress
    dtype: torch.dtype = STORED
    told: dict[tuple[int, float], Tensor] = field(default_factory=dict)
    nets: dict[str, Nets] = field(default_factory=dict)
    """all that were trained or read back, by name"""

    @functools.cached_property
    def varied(self) -> Transfer:
        """Variants of all that is in train, for labels."""
        return self._variants_of_all(self.recipe.variants)

    @functools.cached_property
    def asked(self) -> Transfer:
        """Those that teachers are asked about."""
        return self._variants_of_all(self.recipe.transfer)

    def bare_labels(self) -> Lesson:
        """Of the examples as they are."""
        return Lesson(inputs=self.train, loss=hard(self.labels))

    def varied_labels(self) -> Lesson:
        """Of the variants; a pass is over as many as there are bare examples."""
        return Lesson(inputs=self.varied.inputs, loss=soft(self.varied.labels, 1.0), per_pass=len(self.train))

    def answers(self, teachers: Nets, temperature: float, name: str, about: Inputs | None = None) -> Lesson:
        """What teachers say, of the variants that they are asked about where `about` is None; this is kept."""
        if about is not None:
            found = said(teachers, about, temperature, self.progress, name)
            return Lesson(inputs=about, loss=soft(found, temperature))
        key = (id(teachers), temperature)
        if key not in self.told:
            self.told[key] = said(teachers, self.asked.inputs, temperature, self.progress, name)
        return Lesson(inputs=self.asked.inputs, loss=soft(self.told[key], temperature), per_pass=len(self.train))

    @property
    def prior(self) -> Tensor:
        """Share [C] of each class in the training set."""
        return torch.bincount(self.labels, minlength=self.classes) / len(self.labels)

    def number(self, name: str) -> int:
        """A seed for whatever has this name: another for each name and each seed of the study."""
        return int(np.random.SeedSequence([self.seed, zlib.crc32(name.encode())]).generate_state(1)[0])

    def trained(
        self,
        name: str,
        table: NetTable,
        lesson: Callable[[], Lesson],
        count: int | Sequence[Tensor] = 1,
        first: Nets | None = None,
    ) -> Nets:
        """So many nets, or one for each of several lists of examples; they start from a copy of `first` where it is
        given.  Nets that are there are read back, and the lesson is not asked for."""
        several = range(count if isinstance(count, int) else len(count))
        nets = copy.deepcopy(first)
        if nets is None:
            seeds = [self.number(f"{name}/{place}") for place in several]
            nets = Nets(self.train.features, table.hidden, self.classes, seeds, self.dtype)
        path = self.place / "nets" / f"{name}.safetensors"
        if path.exists():
            self.nets[name] = read_back(nets, path)
            return self.nets[name]
        learnt = lesson()
        size = len(learnt.inputs)
        examples = [torch.arange(size)] * count if isinstance(count, int) else count
        how = Fit(
            epochs=table.epochs * (learnt.per_pass or size) / size,
            batch=table.batch, learning_rate=table.learning_rate, dropout=table.dropout,
        )  # fmt: skip
        fit(nets, learnt.inputs, learnt.loss, how, self.number(name), examples, self.progress, name)
        with replacing(path) as temporary:
            save_file(
                {key: value.detach().to(STORED).contiguous() for key, value in nets.state_dict().items()}, temporary
            )
        self.nets[name] = nets.as_stored()
        return self.nets[name]

    def variants(self, chosen: Tensor, wanted: VariantsTable, seed: int) -> Transfer:
        """Of the chosen training examples, as the table says."""
        how = Variants(copies=wanted.copies, bare=wanted.bare, warp=wanted.warp, mix=wanted.mix)
        return transfer_set(self.train, self.labels, chosen, how, seed)

    def _variants_of_all(self, wanted: VariantsTable) -> Transfer:
        return self.variants(torch.arange(len(self.train)), wanted, self.seed)

    def tested(self, nets: Nets) -> Tensor:
        """Logits [M, N', C] on the test set."""
        return logits_of(nets, self.test)

    def accuracy(self, logits: Tensor) -> float:
        """Of logits [N', C] on the test set."""
        return float((logits.argmax(-1) == self.test_labels).float().mean())

    def accuracies(self, nets: Nets) -> list[float]:
        """One a net."""
        return [self.accuracy(logits) for logits in self.tested(nets)]


def workdir_for(
    data: Labelled,
    recipe: ClassifierStudy,
    seed: int,
    place: Path,
    progress: Progress,
    dtype: torch.dtype = STORED,
) -> Workdir:
    """Labelled examples on the scale of the training set."""
    scale = scale_of(data.train)
    return Workdir(
        recipe=recipe, train=inputs(data.train, scale), labels=torch.from_numpy(data.train_labels),
        test=inputs(data.test, scale), test_labels=torch.from_numpy(data.test_labels),
        classes=data.classes, seed=seed, place=place, progress=progress, dtype=dtype,
    )  # fmt: skip


def read_back(nets: Nets, path: Path) -> Nets:
    """The nets with the weights of a file; BadInput where it is damaged."""
    try:
        nets.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadInput(f"{path} is damaged; remove it, and its net is trained again") from error
    return nets
