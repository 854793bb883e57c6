"""Labelled images from IDX files, the format of MNIST and its successors; a directory of four, gzipped or not.

    0 0 type rank, then rank big-endian 32-bit sizes, then the values   (LeCun, Cortes, Burges, "The MNIST database")

Only unsigned bytes are read, which is what images and labels are.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flashstill.errors import BadInput, unknown

Bytes = npt.NDArray[np.uint8]
NAMED = {"fashion-mnist": (Path("/usr/share/datasets/fashion-mnist"), "dataset-fashion-mnist")}
"""sets that a Debian package carries: where, and which"""

_UNSIGNED_BYTE = 0x08


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """Images [N, H, W] and labels [N] of a training and a test set; classes: labels are below it."""

    train: Bytes
    train_labels: npt.NDArray[np.int64]
    test: Bytes
    test_labels: npt.NDArray[np.int64]
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


def load_images(source: str) -> Images:
    """A named set, or a directory with `*train*images*idx3*`, `*train*labels*idx1*` and the same of the test set."""
    if source in NAMED:
        directory, package = NAMED[source]
        if not directory.is_dir():
            raise BadInput(f"data {source!r} comes with a Debian package: apt-get install {package}")
    else:
        directory = Path(source).expanduser()
        if not directory.is_dir():
            raise BadInput(f"there is no directory {source!r}, and {unknown('data', source, NAMED)}")
    train, train_labels = _pair(directory, ("train",))
    test, test_labels = _pair(directory, ("t10k", "test"))
    classes = int(max(train_labels.max(), test_labels.max())) + 1
    missing = sorted(set(range(classes)) - set(train_labels.tolist()))
    if missing:
        raise BadInput(f"the training labels in {directory} reach {classes - 1}, but {missing[0]} is never among them")
    return Images(train=train, train_labels=train_labels, test=test, test_labels=test_labels, classes=classes)


def _pair(directory: Path, words: tuple[str, ...]) -> tuple[Bytes, npt.NDArray[np.int64]]:
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
