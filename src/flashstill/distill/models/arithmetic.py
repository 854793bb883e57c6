"""Choose the precision (bf16 or fp32) and the number of CPU threads that all models of this process run with.

A processor without bf16 instructions multiplies bf16 matrices many times slower than fp32 ones, and on a busy machine
two threads can be slower than one.  Both choices are measured (product_speed.py).

A run records its choice before it starts and keeps it when it is resumed, also on another machine: with another
precision it would reach different weights.  Weights on disk are always bf16; an fp32 run converts them when it loads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from flashstill.distill.models.devices import current, multiplies_bf16
from flashstill.distill.models.product_speed import DTYPES, Shape, fastest_precision, fastest_threads
from flashstill.distill.models.threads import asked_threads
from flashstill.errors import BadInput, unknown
from flashstill.files import write_text

AUTO = "auto"
WANTED = (AUTO, *DTYPES)
FILE = "arithmetic.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic:
    """The chosen precision ("bf16" or "fp32") and the number of threads for torch's CPU operations."""

    precision: str
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of weights in memory and of matrix products."""
        return DTYPES[self.precision]

    def __str__(self) -> str:
        return f"{self.precision} arithmetic, {self.threads} thread{'s' if self.threads != 1 else ''}"


def shape_of(directory: Path) -> Shape:
    """The matrix sizes of the model in a directory; default sizes if its config.json cannot be interpreted."""
    from flashstill.arch.catalogue import read_config

    try:
        architecture = read_config(directory / "config.json", directory.name)
    except BadInput:
        return Shape()
    widths = [layer.ffn.width or layer.ffn.dense_width for layer in architecture.layers]
    return Shape(
        width=architecture.width, feed_forward=max(widths) or architecture.width, vocabulary=architecture.vocabulary
    )


def decided(requested: str = AUTO, shape: Shape | None = None) -> Arithmetic:
    """The requested precision ("auto": the fastest on this machine) with the number of threads that is fastest now.

    On a GPU nothing is measured: "auto" is bf16 where it multiplies bf16 (Ampere and later), else fp32.
    """
    if requested not in WANTED:
        raise BadInput(unknown("arithmetic", requested, WANTED))
    if (device := current()).type != "cpu":
        fastest = "bf16" if multiplies_bf16(device) else "fp32"
        return Arithmetic(precision=fastest if requested == AUTO else requested, threads=torch.get_num_threads())
    measured = (shape or Shape()).measured
    precision = fastest_precision(measured) if requested == AUTO else requested
    return Arithmetic(precision=precision, threads=fastest_threads(measured, precision))


def settled(requested: str, shape: Callable[[], Shape], record: Path) -> Arithmetic:
    """The precision and threads of a run, applied to this process: those on record, or chosen now for a new run.

    record: a JSON file in the run directory; with several processes, the first must call this before the others.
    Raises BadInput if the file is damaged, or if the run was started in a precision other than `requested`.
    """
    if not record.is_file():
        arithmetic = decided(requested, shape())
        write_text(record, json.dumps({"wanted": requested, **asdict(arithmetic)}, indent=1))
    arithmetic = begun(record)
    if requested not in (AUTO, arithmetic.precision):
        raise BadInput(
            f"{record.parent} was begun in {arithmetic.precision} arithmetic, not {requested}: its weights would belong"
            " to neither; leave the arithmetic as it was, or give another --out"
        )
    return in_use(arithmetic)


def begun(record: Path) -> Arithmetic:
    """The choice that a run has recorded, with as many threads as the environment asks for; BadInput if damaged."""
    try:
        record_fields = json.loads(record.read_text(encoding="utf-8"))
        threads = asked_threads() or int(record_fields["threads"])
        arithmetic = Arithmetic(precision=record_fields["precision"], threads=threads)
        if arithmetic.precision not in DTYPES or arithmetic.threads < 1:
            raise ValueError("no arithmetic of ours")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{record} does not say in which arithmetic the run was begun; restore it or begin anew"
        ) from error
    return arithmetic


def in_use(arithmetic: Arithmetic) -> Arithmetic:
    """Set torch's number of threads to `arithmetic.threads` and return `arithmetic`."""
    if torch.get_num_threads() != arithmetic.threads:
        torch.set_num_threads(arithmetic.threads)
    return arithmetic


def precision_of(dtype: torch.dtype) -> str:
    """The short name of a torch dtype: "bf16", "fp32", "fp16" or "fp64"."""
    return {**{value: name for name, value in DTYPES.items()}, torch.float16: "fp16", torch.float64: "fp64"}[dtype]
