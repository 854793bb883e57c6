"""The state that the parts of a study of classifiers share: one seed's data, its trained nets, their accuracies.

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
from flashstill.distill.classifiers.targets import class_probabilities, hard, soft
from flashstill.distill.classifiers.transfer import Transfer, Variants, transfer_set
from flashstill.distill.models import STORED
from flashstill.errors import BadInput
from flashstill.files import replacing
from flashstill.progress import Progress
from flashstill.recipes.classifiers import NetTable, VariantsTable

AS_THEY_ARE = VariantsTable()


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingTask:
    """What nets are trained on. per_pass: examples of an epoch, all of `inputs` where it is None."""

    inputs: Inputs
    loss: Loss
    per_pass: int | None = None


@dataclass(frozen=True, kw_only=True)
class ClassifierWork:
    """One seed of a study. train and test: inputs of nets; labels [N] and test_labels [N']; classes: C; dtype: in which
    nets compute; variants_table and transfer_table: how the variants are made; targets: soft targets on variants, by
    teacher and temperature.

    Variants, and the teachers' targets on them, are made when the first net needs them.
    """

    train: Inputs
    labels: Tensor
    test: Inputs
    test_labels: Tensor
    classes: int
    seed: int
    place: Path
    progress: Progress
    dtype: torch.dtype = STORED
    variants_table: VariantsTable = AS_THEY_ARE
    transfer_table: VariantsTable = AS_THEY_ARE
    targets: dict[tuple[int, float], Tensor] = field(default_factory=dict)
    nets: dict[str, Nets] = field(default_factory=dict)
    """every net trained or read back, by name"""

    @functools.cached_property
    def labelled_variants(self) -> Transfer:
        """Variants of all training examples, with their labels."""
        return self._variants_of_all(self.variants_table)

    @functools.cached_property
    def transfer_variants(self) -> Transfer:
        """Variants of all training examples on which teachers give soft targets."""
        return self._variants_of_all(self.transfer_table)

    def plain_labels(self) -> TrainingTask:
        """The training examples with their labels."""
        return TrainingTask(inputs=self.train, loss=hard(self.labels))

    def labels_of_variants(self) -> TrainingTask:
        """Variants with their labels; an epoch is as many of them as there are training examples."""
        return TrainingTask(
            inputs=self.labelled_variants.inputs,
            loss=soft(self.labelled_variants.labels, 1.0),
            per_pass=len(self.train),
        )

    def soft_targets(self, teachers: Nets, temperature: float, name: str, about: Inputs | None = None) -> TrainingTask:
        """Teachers' soft targets on `about`, or (cached) on the transfer variants if it is None."""
        if about is not None:
            targets = class_probabilities(teachers, about, temperature, self.progress, name)
            return TrainingTask(inputs=about, loss=soft(targets, temperature))
        key = (id(teachers), temperature)
        if key not in self.targets:
            self.targets[key] = class_probabilities(
                teachers, self.transfer_variants.inputs, temperature, self.progress, name
            )
        return TrainingTask(
            inputs=self.transfer_variants.inputs, loss=soft(self.targets[key], temperature), per_pass=len(self.train)
        )

    @property
    def prior(self) -> Tensor:
        """Share [C] of each class in the training set."""
        return torch.bincount(self.labels, minlength=self.classes) / len(self.labels)

    def seed_for(self, name: str) -> int:
        """A seed that depends on a name and on the seed of the study."""
        return int(np.random.SeedSequence([self.seed, zlib.crc32(name.encode())]).generate_state(1)[0])

    def trained(
        self,
        name: str,
        table: NetTable,
        task: Callable[[], TrainingTask],
        count: int | Sequence[Tensor] = 1,
        first: Nets | None = None,
    ) -> Nets:
        """`count` nets, or one for each of several lists of examples; they start from a copy of `first` where it is
        given.  Nets that are on the disk are read back, and the task is not made."""
        places = range(count if isinstance(count, int) else len(count))
        nets = copy.deepcopy(first)
        if nets is None:
            seeds = [self.seed_for(f"{name}/{place}") for place in places]
            nets = Nets(self.train.features, table.hidden, self.classes, seeds, self.dtype)
        path = self.place / "nets" / f"{name}.safetensors"
        if path.exists():
            self.nets[name] = read_back(nets, path)
            return self.nets[name]
        learned = task()
        size = len(learned.inputs)
        examples = [torch.arange(size)] * count if isinstance(count, int) else count
        how = Fit(
            epochs=table.epochs * (learned.per_pass or size) / size,
            batch=table.batch, learning_rate=table.learning_rate, dropout=table.dropout, jitter=table.jitter,
        )  # fmt: skip
        fit(nets, learned.inputs, learned.loss, how, self.seed_for(name), examples, self.progress, name)
        with replacing(path) as temporary:
            save_file(
                {key: value.detach().to(STORED).contiguous() for key, value in nets.state_dict().items()}, temporary
            )
        self.nets[name] = nets.as_stored()
        return self.nets[name]

    def variants(self, chosen: Tensor, table: VariantsTable, seed: int) -> Transfer:
        """Variants of the chosen training examples."""
        how = Variants(copies=table.copies, bare=table.bare, warp=table.warp, mix=table.mix)
        return transfer_set(self.train, self.labels, chosen, how, seed)

    def _variants_of_all(self, table: VariantsTable) -> Transfer:
        return self.variants(torch.arange(len(self.train)), table, self.seed)

    def tested(self, nets: Nets) -> Tensor:
        """Logits [M, N', C] on the test set."""
        return logits_of(nets, self.test)

    def accuracy(self, logits: Tensor) -> float:
        """Accuracy of logits [N', C] on the test set."""
        return float((logits.argmax(-1) == self.test_labels).float().mean())

    def accuracies(self, nets: Nets) -> list[float]:
        """Accuracy of each net on the test set."""
        return [self.accuracy(logits) for logits in self.tested(nets)]


def work_for(
    data: Labelled,
    seed: int,
    place: Path,
    progress: Progress,
    dtype: torch.dtype = STORED,
    variants: VariantsTable = AS_THEY_ARE,
    transfer: VariantsTable = AS_THEY_ARE,
) -> ClassifierWork:
    """The state of one seed; inputs are scaled by the training set."""
    scale = scale_of(data.train)
    return ClassifierWork(
        train=inputs(data.train, scale), labels=torch.from_numpy(data.train_labels),
        test=inputs(data.test, scale), test_labels=torch.from_numpy(data.test_labels),
        classes=data.classes, seed=seed, place=place, progress=progress, dtype=dtype,
        variants_table=variants, transfer_table=transfer,
    )  # fmt: skip


def read_back(nets: Nets, path: Path) -> Nets:
    """The nets with the weights of a file; BadInput where it is damaged."""
    try:
        nets.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadInput(f"{path} is damaged; remove it, and its net is trained again") from error
    return nets
