"""Classifiers: the reader of IDX files refuses what is not whole, and soft targets teach a small net."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from flashstill.distill.classifiers.data import Bytes, load_images, read_idx
from flashstill.distill.classifiers.nets import Net, NetRecipe, fit, logits_of, moved, scaled
from flashstill.distill.losses import cross_entropy, forward_kl
from flashstill.errors import BadInput


def idx(array: Bytes) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, dtype=">u4").tobytes() + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two kinds of 4 x 4 images: bright above, or bright below."""
    generator = np.random.default_rng(0)
    for name, count in (("train", 200), ("t10k", 50)):
        labels = np.arange(count, dtype=np.uint8) % 2
        images = generator.integers(0, 120, (count, 4, 4)).astype(np.uint8)
        images[labels == 0, :2] += 100
        images[labels == 1, 2:] += 100
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_a_directory_of_four(folder: Path) -> None:
    images = load_images(str(folder))
    assert images.train.shape == (200, 4, 4)
    assert images.test_labels.tolist()[:3] == [0, 1, 0]
    assert images.classes == 2


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda raw: raw[:-3], "not whole: its header promises 200 values, it holds 197"),
        (lambda raw: b"PNG" + raw, "not an IDX file"),
        (lambda raw: raw[:2] + b"\x0d" + raw[3:], "type 0x0d"),
        (lambda raw: idx(np.zeros(199, dtype=np.uint8)), "200 train images, but 199 labels"),
        (lambda raw: raw[:-1] + b"\x05", "reach 5, but 2 is never among them"),
    ],
)
def test_files_that_are_not_right(folder: Path, harm: object, said: str) -> None:
    path = folder / "train-labels-idx1-ubyte"
    assert callable(harm)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(BadInput, match=said):
        load_images(str(folder))


def test_missing_files_and_names(folder: Path) -> None:
    with pytest.raises(BadInput, match="nearest known: fashion-mnist"):
        load_images("fashion-mist")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(BadInput, match="no labels of the t10k set"):
        load_images(str(folder))
    damaged = folder / "train-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(BadInput, match="cannot be read"):
        read_idx(damaged)


def test_images_move_and_leave_black_behind() -> None:
    image = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 3, 3)
    assert moved(image, torch.tensor([[1, 0]])).tolist() == [[[0, 0, 0], [1, 2, 3], [4, 5, 6]]]
    assert moved(image, torch.tensor([[0, -1]])).tolist() == [[[2, 3, 0], [5, 6, 0], [8, 9, 0]]]
    assert torch.equal(moved(image, torch.tensor([[0, 0]])), image)


def test_a_small_net_learns_from_a_larger_one(folder: Path) -> None:
    images = load_images(str(folder))
    data = scaled(torch.from_numpy(images.train.copy()))
    labels = torch.from_numpy(images.train_labels)
    test = data.of(torch.from_numpy(images.test.copy()))
    recipe = NetRecipe(hidden=(32,), epochs=10, batch=20, learning_rate=1e-2, jitter=0, dropout=0.1)
    teacher = fit(Net(16, 2, recipe, 0), data, lambda z, index, x: cross_entropy(z, labels[index]), recipe, 0)
    soft = logits_of([teacher], data)[0].clone()
    small = NetRecipe(hidden=(4,), epochs=10, batch=20, learning_rate=1e-2)
    students = [
        fit(Net(16, 2, small, 1), data, lambda z, index, x: forward_kl(z, soft[index], 4.0), small, 1) for _ in range(2)
    ]
    truth = torch.from_numpy(images.test_labels)
    for net in (teacher, students[0]):
        assert float((logits_of([net], test)[0].argmax(-1) == truth).float().mean()) > 0.9
    assert torch.equal(*logits_of(students, test)), "a seed decides"
