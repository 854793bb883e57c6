"""Tiny images in IDX files: each class is a band of brighter rows under noise."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """The array as an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, dtype=">u4").tobytes() + array.tobytes()


def write_images(folder: Path, classes: int, side: int, train: int, test: int, noise: int = 120) -> Path:
    """Four files; labels go round, 0, 1, ..., 0, 1, ..."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % classes).astype(np.uint8)
        images = generator.integers(0, noise, (count, side, side)).astype(np.uint8)
        band = np.arange(side)[None, :] * classes // side == labels[:, None]
        images += (band[:, :, None] * 100).astype(np.uint8)
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder
