"""Labelled examples: images from a directory of four IDX files, gzipped or not; or the rows of a CSV file.

    0 0 type rank, then rank big-endian 32-bit sizes, then the values   (LeCun, Cortes, Burges, "The MNIST database")

Only IDX files of unsigned bytes are supported, the type of images and labels.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flashstill.bounded import check_regular, named_path
from flashstill.distill.classifiers.drawn import drawn_digits
from flashstill.distill.classifiers.tables import Labels, Rows, read_table, split
from flashstill.errors import BadInput, unknown

Bytes = npt.NDArray[np.uint8]
NAMED = {"fashion-mnist": (Path("/usr/share/datasets/fashion-mnist"), "dataset-fashion-mnist")}
"""data sets in Debian packages: name -> (directory, package)"""
DRAWN = "drawn-digits"
"""a data set that is made here (drawn.py)"""

_UNSIGNED_BYTE = 0x08
MOST_AXES, MOST_VALUES = 4, 2**30
"""limits of one file: 2^30 values are a million gray images of 32 x 32"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """Training and test images [N, H, W] or rows [N, D] with labels [N]; classes: number of classes."""

    train: Bytes | Rows
    train_labels: Labels
    test: Bytes | Rows
    test_labels: Labels
    classes: int


def read_idx(path: Path) -> Bytes:
    """The array of an IDX file of unsigned bytes; BadInput if it is not one, or is truncated.

    Decompression stops at the size in the header, which is limited: a gzip file can expand a thousandfold.
    """
    check_regular(path)
    try:
        with _opened(path) as stream:
            sizes = _sizes(path, stream)
            promised = math.prod(sizes)
            if promised > MOST_VALUES:
                raise BadInput(f"the header of {path} promises {promised:,} values; at most {MOST_VALUES:,} are read")
            values = np.frombuffer(stream.read(promised + 1), dtype=np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    if len(values) != promised:
        got = "more" if len(values) > promised else str(len(values))
        raise BadInput(f"{path} is not whole: its header promises {promised} values, it holds {got}")
    return values.reshape(sizes)


def _opened(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _sizes(path: Path, stream: io.BufferedIOBase) -> tuple[int, ...]:
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[3] == 0:
        raise BadInput(f"{path} is not an IDX file")
    if start[2] != _UNSIGNED_BYTE:
        raise BadInput(f"{path} holds values of type {start[2]:#04x}; only unsigned bytes (0x08) are read")
    rank = start[3]
    if rank > MOST_AXES:
        raise BadInput(f"{path} has {rank} axes; images have three and labels one")
    sizes = stream.read(4 * rank)
    if len(sizes) != 4 * rank:
        raise BadInput(f"{path} is not whole: it ends within its header")
    return struct.unpack(f">{rank}I", sizes)


def load(source: str, seed: int) -> Labelled:
    """Load a named set; a directory with `*train*images*`, `*train*labels*` and likewise the test set; or a CSV file.

    A CSV file is split at random into training and test rows, by the seed.
    """
    path = named_path(source)
    if source == DRAWN:
        learned, asked = drawn_digits()
        return _checked(path, learned[0], learned[1].astype(np.int64), asked[0], asked[1].astype(np.int64))
    if source in NAMED:
        path, package = NAMED[source]
        if not path.is_dir():
            raise BadInput(f"data {source!r} comes with a Debian package: apt-get install {package}")
    if path.is_dir():
        return _checked(path, *_pair(path, ("train",)), *_pair(path, ("t10k", "test")))
    if not path.is_file():
        raise BadInput(f"there is no directory and no file {source!r}, and {unknown('data', source, [*NAMED, DRAWN])}")
    rows, labels = read_table(path)
    train, test = split(len(rows), seed)
    return _checked(path, rows[train], labels[train], rows[test], labels[test])


def _checked(
    path: Path, train: Bytes | Rows, train_labels: Labels, test: Bytes | Rows, test_labels: Labels
) -> Labelled:
    if not len(train) or not len(test):
        raise BadInput(
            f"{path}: {len(train)} examples to train on and {len(test)} to test on; there must be some of both"
        )
    if train.shape[1:] != test.shape[1:]:
        raise BadInput(f"{path}: training images are {train.shape[1:]}, test images {test.shape[1:]}")
    classes = int(train_labels.max()) + 1
    present = np.unique(train_labels)
    missing = np.flatnonzero(present != np.arange(len(present)))
    if len(missing):
        raise BadInput(f"the training labels in {path} reach {classes - 1}, but {missing[0]} is never among them")
    if int(test_labels.max()) >= classes:
        raise BadInput(
            f"{path}: a test label is {test_labels.max()}, out of range: training labels go from 0 to {classes - 1}"
        )
    if classes < 2:
        raise BadInput(f"{path}: all labels are {classes - 1}; there must be at least two classes")
    return Labelled(
        train=train, train_labels=train_labels, test=test, test_labels=test_labels, classes=classes
    )  # fmt: skip


def _pair(directory: Path, words: tuple[str, ...]) -> tuple[Bytes, Labels]:
    images, labels = read_idx(_file(directory, words, "images")), read_idx(_file(directory, words, "labels"))
    if images.ndim != 3 or labels.ndim != 1:
        raise BadInput(f"{directory}: images must have three axes and labels one, not {images.ndim} and {labels.ndim}")
    if len(images) != len(labels):
        raise BadInput(f"{directory}: {len(images)} {words[0]} images, but {len(labels)} labels")
    return images, labels.astype(np.int64)


def _file(directory: Path, words: tuple[str, ...], what: str) -> Path:
    candidates = sorted(
        path for path in directory.iterdir() if what in path.name and any(word in path.name for word in words)
    )
    if not candidates:
        like = f"{words[0]}-{what}-idx*-ubyte.gz"
        raise BadInput(f"{directory} holds no {what} of the {words[0]} set (a file like {like})")
    if len({path.name.removesuffix(".gz") for path in candidates}) > 1:
        names = ", ".join(path.name for path in candidates)
        raise BadInput(f"{directory} holds more than one file of {what} of the {words[0]} set ({names}); leave one")
    return candidates[0]  # a file and its compressed twin are the same
