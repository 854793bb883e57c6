"""Labelled examples: images from IDX files, a directory of four, gzipped or not; or the rows of a CSV file.

    0 0 type rank, then rank big-endian 32-bit sizes, then the values   (LeCun, Cortes, Burges, "The MNIST database")

Only unsigned bytes are read from IDX files, which is what images and labels are.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flashstill.distill.classifiers.tables import Labels, Rows, read_table, split
from flashstill.errors import BadInput, unknown

Bytes = npt.NDArray[np.uint8]
NAMED = {"fashion-mnist": (Path("/usr/share/datasets/fashion-mnist"), "dataset-fashion-mnist")}
"""sets that a Debian package carries: where, and which"""

_UNSIGNED_BYTE = 0x08


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """Images [N, H, W] or rows [N, D] with labels [N], to train and to test; classes: labels are below it."""

    train: Bytes | Rows
    train_labels: Labels
    test: Bytes | Rows
    test_labels: Labels
    classes: int


def read_idx(path: Path) -> Bytes:
    """The array of an IDX file of unsigned bytes; BadInput where it is not one, or not whole."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[3] == 0:
        raise BadInput(f"{path} is not an IDX file")
    if raw[2] != _UNSIGNED_BYTE:
        raise BadInput(f"{path} holds values of type {raw[2]:#04x}; only unsigned bytes (0x08) are read")
    rank = raw[3]
    sizes = np.frombuffer(raw[4 : 4 + 4 * rank], dtype=">u4").astype(np.int64)
    values = np.frombuffer(raw[4 + 4 * rank :], dtype=np.uint8)
    if len(sizes) != rank or len(values) != int(np.prod(sizes)):
        raise BadInput(f"{path} is not whole: its header promises {int(np.prod(sizes))} values, it holds {len(values)}")
    return values.reshape(tuple(sizes))


def load(source: str, seed: int) -> Labelled:
    """A named set; a directory with `*train*images*`, `*train*labels*` and the same of the test set; or a CSV file.

    The seed splits a CSV file, which has no test set of its own.
    """
    path = Path(source).expanduser()
    if source in NAMED:
        path, package = NAMED[source]
        if not path.is_dir():
            raise BadInput(f"data {source!r} comes with a Debian package: apt-get install {package}")
    if path.is_dir():
        return _checked(path, *_pair(path, ("train",)), *_pair(path, ("t10k", "test")))
    if not path.is_file():
        raise BadInput(f"there is no directory and no file {source!r}, and {unknown('data', source, NAMED)}")
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
    missing = sorted(set(range(classes)) - set(train_labels.tolist()))
    if missing:
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
    found = sorted(
        path for path in directory.iterdir() if what in path.name and any(word in path.name for word in words)
    )
    if not found:
        like = f"{words[0]}-{what}-idx*-ubyte.gz"
        raise BadInput(f"{directory} holds no {what} of the {words[0]} set (a file like {like})")
    return found[0]
