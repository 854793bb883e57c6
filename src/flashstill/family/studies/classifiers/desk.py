"""Where the parts of a study of classifiers work: one seed's data, the nets it has trained, their accuracies.

DIR/nets/NAME.safetensors    a net, or several of one shape trained side by side; read back where it is there
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
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
from flashstill.distill.classifiers.targets import said, soft
from flashstill.distill.classifiers.transfer import Transfer, Variants, transfer_set
from flashstill.errors import BadInput
from flashstill.files import replacing
from flashstill.progress import Progress
from flashstill.recipes.classifiers import ClassifierStudy, NetTable, VariantsTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """train and test: what nets see; labels [N] and test_labels [N']; classes: C.

    varied: variants of all that is in train, for labels; asked: those that teachers are asked about; told: what they
    have said, by teachers, examples and temperature.
    """

    varied: Transfer
    asked: Transfer
    train: Inputs
    labels: Tensor
    test: Inputs
    test_labels: Tensor
    classes: int
    seed: int
    place: Path
    progress: Progress
    told: dict[tuple[int, int, float], Tensor] = field(default_factory=dict)

    @property
    def labelled(self) -> Loss:
        """Of the varied examples' labels."""
        return soft(self.varied.labels, 1.0)

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
        loss: Loss,
        count: int | Sequence[Tensor] = 1,
        on: Inputs | None = None,
        first: Nets | None = None,
    ) -> Nets:
        """So many nets, or one for each of several lists of examples; `on` other inputs than the training set.

        An epoch is one over as many examples as the training set has, or over all of `on` where these are not its
        variants.  They start from a copy of `first` where it is given, and are read back where they are there.
        """
        data = self.train if on is None else on
        examples = [torch.arange(len(data))] * count if isinstance(count, int) else count
        nets = copy.deepcopy(first)
        if nets is None:
            seeds = [self.number(f"{name}/{place}") for place in range(len(examples))]
            nets = Nets(data.features, table.hidden, self.classes, seeds)
        path = self.place / "nets" / f"{name}.safetensors"
        if path.exists():
            return read_back(nets, path)
        is_variants = any(data is each.inputs for each in (self.varied, self.asked))
        how = Fit(
            epochs=table.epochs * len(self.train) / len(data) if is_variants else table.epochs,
            batch=table.batch, learning_rate=table.learning_rate, dropout=table.dropout,
        )  # fmt: skip
        fit(nets, data, loss, how, self.number(name), examples, self.progress, name)
        with replacing(path) as temporary:
            save_file({key: value.detach().contiguous() for key, value in nets.state_dict().items()}, temporary)
        return nets

    def said(self, teachers: Nets, about: Inputs, temperature: float, name: str) -> Tensor:
        """As `said`; what they have said before is not asked again."""
        key = (id(teachers), id(about), temperature)
        if key not in self.told:
            self.told[key] = said(teachers, about, temperature, self.progress, name)
        return self.told[key]

    def tested(self, nets: Nets) -> Tensor:
        """Logits [M, N', C] on the test set."""
        return logits_of(nets, self.test)

    def accuracy(self, logits: Tensor) -> float:
        """Of logits [N', C] on the test set."""
        return float((logits.argmax(-1) == self.test_labels).float().mean())

    def accuracies(self, nets: Nets) -> list[float]:
        """One a net."""
        return [self.accuracy(logits) for logits in self.tested(nets)]


def desk_for(data: Labelled, recipe: ClassifierStudy, seed: int, place: Path, progress: Progress) -> Desk:
    """Labelled examples on the scale of the training set, and their variants."""
    scale = scale_of(data.train)
    train, labels = inputs(data.train, scale), torch.from_numpy(data.train_labels)
    varied, asked = (
        variants(train, labels, torch.arange(len(train)), wanted, seed) for wanted in (recipe.variants, recipe.transfer)
    )
    return Desk(
        varied=varied, asked=asked, train=train, labels=labels,
        test=inputs(data.test, scale), test_labels=torch.from_numpy(data.test_labels),
        classes=data.classes, seed=seed, place=place, progress=progress,
    )  # fmt: skip


def variants(train: Inputs, labels: Tensor, chosen: Tensor, wanted: VariantsTable, seed: int) -> Transfer:
    """Of the chosen training examples, as the table says."""
    how = Variants(copies=wanted.copies, bare=wanted.bare, warp=wanted.warp, mix=wanted.mix)
    return transfer_set(train, labels, chosen, how, seed)


def read_back(nets: Nets, path: Path) -> Nets:
    """The nets with the weights of a file; BadInput where it is damaged."""
    try:
        nets.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadInput(f"{path} is damaged; remove it, and its net is trained again") from error
    return nets
