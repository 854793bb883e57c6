"""Model and quality records of a seed's nets, for other tools.

Nets of one shape that were trained side by side are one model, with their mean accuracy; its 95 % interval is normal,
over test images.  The token counts of the records count images.  Training is not counted here: its tokens and seconds
are 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from flashstill.distill.classifiers.nets import Nets
from flashstill.evaluate.attempts import accuracy
from flashstill.evaluate.problems import quality_records
from flashstill.records import ModelRecord, Record
from flashstill.studies.classifiers.work import ClassifierWork

TEACHERS = ("teacher", "members")
ON_SOFT_TARGETS = "soft"
SPECIALIST = "specialist-"
"""prefix of specialists, which distinguish only some classes and so have no accuracy of their own"""


def net_records(work: ClassifierWork, arithmetic: str) -> Iterator[Record]:
    """Records of every net except specialists: the model, and its accuracy on test images."""
    nets = {name: each for name, each in work.nets.items() if not name.startswith(SPECIALIST)}
    for name, each in nets.items():
        yield _model_record(name, each, set(nets), arithmetic)
    for name, each in nets.items():
        is_right = work.tested(each).argmax(-1) == work.test_labels
        figure = {**asdict(accuracy(is_right.float().mean(0).numpy())), "tokens": 1.0}
        yield from quality_records(name, {"accuracy": figure}, "test")


def _model_record(name: str, nets: Nets, names: set[str], arithmetic: str) -> ModelRecord:
    sibling = f"{name.rpartition('-')[0]}-{ON_SOFT_TARGETS}"
    is_control = sibling in names and name != sibling
    role = "teacher" if name in TEACHERS else "control" if is_control else "student"
    return ModelRecord(
        model=name, role=role, of=sibling if is_control else name, parameters=nets.parameters_each,
        layers=len(nets.hidden) + 1, training_tokens=0, training_s=0.0, path=f"nets/{name}.safetensors",
        arithmetic=arithmetic,
    )  # fmt: skip
