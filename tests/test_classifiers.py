"""Classifiers: readers refuse what is not whole, soft targets teach, and every correction is exact where it can be."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flashstill.distill.classifiers.data import NAMED, Labelled, load, read_idx
from flashstill.distill.classifiers.fitting import Batch, Fit, Loss, fit
from flashstill.distill.classifiers.inputs import Inputs, Scale, inputs, scale_of
from flashstill.distill.classifiers.nets import Dropout, Nets, logits_of
from flashstill.distill.classifiers.priors import biased, matching_bias, recall, shifted
from flashstill.distill.classifiers.specialists import (
    Opinion,
    clusters,
    combined,
    confusion,
    corrected,
    grouped,
    half_and_half,
    own_labels,
    specialist_from,
)
from flashstill.distill.classifiers.targets import class_probabilities, hard, soft
from flashstill.distill.classifiers.transfer import Variants, transfer_set
from flashstill.distill.losses import forward_kl
from flashstill.distill.teachers import resolve_teacher
from flashstill.errors import BadInput
from flashstill.progress import Silent
from tests.images import idx, write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two kinds of 4 x 4 images: bright above, or bright below."""
    return write_images(tmp_path, classes=2, side=4, train=200, test=50)


def trained(data: Inputs, loss: Loss, how: Fit, hidden: int, classes: int, seeds: list[int]) -> Nets:
    nets = Nets(data.features, (hidden,), classes, seeds)
    return fit(nets, data, loss, how, 0, [torch.arange(len(data))] * len(seeds), Silent(), "net")


def test_a_directory_of_four(folder: Path) -> None:
    images = load(str(folder), 0)
    assert images.train.shape == (200, 4, 4)
    assert images.test_labels.tolist()[:3] == [0, 1, 0]
    assert images.classes == 2


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda raw: raw[:-3], "not whole: its header promises 200 values, it holds 197"),
        (lambda raw: b"PNG" + raw, "not an IDX file"),
        (lambda raw: b"", "not an IDX file"),
        (lambda raw: raw[:2] + b"\x0d" + raw[3:], "type 0x0d"),
        (lambda raw: idx(np.zeros(199, dtype=np.uint8)), "200 train images, but 199 labels"),
        (lambda raw: raw + b"1", "promises 200 values, it holds more"),
        (lambda raw: raw[:3] + b"\xff" + raw[4:], "has 255 axes"),
        (lambda raw: raw[:6], "ends within its header"),
        (lambda raw: raw[:3] + b"\x04" + b"\xff" * 16, "promises 340,282,366[0-9,]* values; at most 1,073,741,824"),
        (lambda raw: raw[:3] + b"\x02" + b"\0\1\0\0" * 2, "promises 4,294,967,296 values; at most"),
        (lambda raw: raw[:3] + b"\x02" + b"\0\0\x40\0" * 2, "promises 268435456 values, it holds 0"),
        (lambda raw: raw[:-1] + b"\x05", "reach 5, but 2 is never among them"),
        (lambda raw: idx(np.zeros(200, dtype=np.uint8)), "out of range: training labels go from 0 to 0"),
    ],
)
def test_files_that_are_not_right(folder: Path, harm: Callable[[bytes], bytes], said: str) -> None:
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(BadInput, match=said):
        load(str(folder), 0)


def test_no_more_is_unpacked_than_the_header_promises(folder: Path) -> None:
    """A thousand times its size, and a tenth of it is already more than this test lets it have."""
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((200, 4, 4), dtype=np.uint8)) + bytes(2**24), 1))
    tracemalloc.start()
    with pytest.raises(BadInput, match="promises 3200 values, it holds more"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


def test_data_of_no_regular_file(folder: Path, tmp_path: Path) -> None:
    path = folder / "train-labels-idx1-ubyte"
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(BadInput, match="is not a regular file"):
        load(str(folder), 0)
    with (tmp_path / "large.csv").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(BadInput, match="larger than 256 MiB"):
        load(str(tmp_path / "large.csv"), 0)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(NAMED, "fashion-mnist", (tmp_path / "nowhere", "dataset-fashion-mnist"))
    with pytest.raises(BadInput, match="apt-get install dataset-fashion-mnist"):
        load("fashion-mnist", 0)


def test_a_home_of_nobody_is_no_data_and_no_teacher() -> None:
    with pytest.raises(BadInput, match="there is no directory and no file '~nobody-of-that-name/x'"):
        load("~nobody-of-that-name/x", 0)
    with pytest.raises(BadInput, match="there is no teacher at"):
        resolve_teacher("~nobody-of-that-name/x", Silent())


def test_missing_files_and_names(folder: Path) -> None:
    with pytest.raises(BadInput, match="nearest known: fashion-mnist"):
        load("fashion-mist", 0)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(BadInput, match="no labels of the t10k set"):
        load(str(folder), 0)
    damaged = folder / "train-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(BadInput, match="cannot be read"):
        read_idx(damaged)


def test_two_files_of_one_kind_are_not_chosen_between(folder: Path) -> None:
    """Nothing says which of them is meant; a file beside its compressed twin is the same."""
    images = folder / "train-images-idx3-ubyte.gz"
    images.with_suffix("").write_bytes(gzip.decompress(images.read_bytes()))
    assert len(load(str(folder), 0).train) == 200
    (folder / "more-train-images-idx3-ubyte.gz").write_bytes(images.read_bytes())
    with pytest.raises(BadInput, match="more than one file of images of the train set"):
        load(str(folder), 0)


def test_sets_that_do_not_fit_together(folder: Path) -> None:
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((50, 5, 4), dtype=np.uint8))))
    with pytest.raises(BadInput, match=r"training images are \(4, 4\), test images \(5, 4\)"):
        load(str(folder), 0)
    path.write_bytes(gzip.compress(idx(np.zeros((0, 4, 4), dtype=np.uint8))))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(0, dtype=np.uint8)))
    with pytest.raises(BadInput, match="200 examples to train on and 0 to test on"):
        load(str(folder), 0)


def table(rows: int) -> str:
    numbers = np.random.default_rng(1).normal(size=(rows, 2)).round(3)
    return "a,label,b\n" + "".join(f"{x},{'over' if x + y > 0 else 'under'},{y}\n" for x, y in numbers)


def test_a_table_is_read_and_split_by_its_seed(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(table(60))
    first, again, other = load(str(path), 0), load(str(path), 0), load(str(path), 1)
    assert first.train.shape == (50, 2)
    assert first.classes == 2
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)
    assert np.array_equal(first.train_labels, (first.train.sum(-1) <= 0).astype(int))
    seen = inputs(first.train, scale_of(first.train)).values.float()
    assert seen.mean((0, 1)).abs().max() < 0.01


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold a header"),
        ("a,label\n", "must hold a header"),
        ("a,label\n1,0,3\n", "row 1 has 3 columns, the header 2"),
        ("a,label\n1,0\nx,1\n", "row 2 holds something that is not a number"),
        ("a,label\n1,0\nnan,1\n", "row 2 holds a number that is not finite"),
        ("a,label\n1,0\n1e39,1\n", "row 2 holds a number that is not finite"),
        ("a,label\n1,0\n2,1e15\n", "the label '1e15' is above 65,535"),
        ("a,label\n1,0\n2,1e300\n", "the label '1e300' is above 65,535"),
        ("a," * 70_000 + "label\n1,0\n", "70,001 columns of at most 65,536"),
        ("a,label\n1,0\n2,-1\n", "the label '-1' is neither a whole number from 0 nor a name"),
        ("a,label\n" + "1,0\n" * 12, "all labels are 0"),
        ("a,label\n" + "1,0\n2,3\n" * 12, "reach 3, but 1 is never among them"),
    ],
)
def test_tables_that_are_not_right(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        load(str(path), 0)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    units = torch.ones(40_000)
    found = Dropout(0.25, torch.Generator().manual_seed(0))(units)
    assert float((found == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.slow
def test_a_small_net_learns_from_a_larger_one_and_a_seed_decides(folder: Path) -> None:
    images = load(str(folder), 0)
    data, test = seen(images)
    labels, truth = torch.from_numpy(images.train_labels), torch.from_numpy(images.test_labels)
    teacher = trained(data, hard(labels), Fit(epochs=10, batch=20, learning_rate=1e-2, dropout=0.1), 32, 2, [0])
    targets = class_probabilities(teacher, data, 4.0, Silent(), "targets")
    students = trained(data, soft(targets, 4.0), Fit(epochs=10, batch=20, learning_rate=1e-2), 4, 2, [1, 2])
    for nets in (teacher, students):
        assert ((logits_of(nets, test).argmax(-1) == truth).float().mean(-1) > 0.9).all()
    again = trained(data, soft(targets, 4.0), Fit(epochs=10, batch=20, learning_rate=1e-2), 4, 2, [1, 2])
    assert torch.equal(logits_of(students, test), logits_of(again, test))
    assert not torch.equal(*logits_of(students, test))


def seen(images: Labelled) -> tuple[Inputs, Inputs]:
    scale = scale_of(images.train)
    return inputs(images.train, scale), inputs(images.test, scale)


def test_nets_side_by_side_are_those_one_by_one(folder: Path) -> None:
    data, _ = seen(load(str(folder), 0))
    stack = logits_of(Nets(data.features, (8,), 3, [5, 6]), data)
    for place, seed in enumerate((5, 6)):
        alone = logits_of(Nets(data.features, (8,), 3, [seed]), data)[0]
        assert torch.allclose(stack[place], alone, atol=0.02)


def test_kept_targets_are_what_the_teachers_say_on_the_way(folder: Path) -> None:
    """Cached = online, for an ensemble; and the loss is the forward KL plus the entropy."""
    data, _ = seen(load(str(folder), 0))
    teachers = Nets(data.features, (8,), 2, [0, 1, 2])
    kept = class_probabilities(teachers, data, 2.0, Silent(), "targets")
    assert kept.shape == (200, 2)
    index = torch.randint(200, (2, 30), generator=torch.Generator().manual_seed(0))
    batch = Batch(images=data.rows(index), index=index)
    logits = torch.randn(2, 30, 2, generator=torch.Generator().manual_seed(1))
    p = kept[index]
    for place in range(2):
        online = (teachers(batch.images[place].expand(3, -1, -1)) / 2.0).softmax(-1).mean(0)
        assert torch.allclose(p[place], online, atol=0.01)
    cached = soft(kept, 2.0)(logits, batch)
    entropy = -(p * p.log()).sum(-1)
    assert torch.allclose(cached - 4.0 * entropy, forward_kl(logits, 2.0 * p.log(), 2.0), atol=1e-4)


def test_a_transfer_set_shares_labels_out_as_images_are_mixed() -> None:
    """Images of one value each: the value of a mixture says how much of which label it must have."""
    images = np.repeat(np.asarray([0, 200], dtype=np.uint8), 9).reshape(2, 3, 3)
    scale = scale_of(images)
    made = transfer_set(
        inputs(images, scale), torch.tensor([0, 1]), torch.tensor([0, 1]), Variants(copies=50, mix=0.8), 3
    )
    assert len(made.inputs) == 100
    value = made.inputs.values[:, 0, 0].float() * float(scale.deviation[0]) + float(scale.mean[0])
    assert torch.allclose(made.labels.sum(-1), torch.ones(100))
    assert torch.allclose(made.labels[:, 1], value / 200, atol=0.01)
    assert 0.2 <= float(made.labels[:50:2, 0].min()) < 0.6
    bare = transfer_set(inputs(images, scale), torch.tensor([0, 1]), torch.tensor([1]), Variants(copies=9), 3)
    assert bare.inputs.features == 9
    assert {float(row.max()) for row in bare.labels} == {1.0}
    assert bool((bare.inputs.values == inputs(images, scale).values[1]).all())


def test_warped_images_are_near_what_they_were_and_bare_ones_are_the_same() -> None:
    """A square in the middle of a picture that is wider than high: its mass stays, and its place within two pixels."""
    images = np.zeros((1, 20, 28), dtype=np.uint8)
    images[0, 7:13, 10:18] = 200
    scale = Scale(mean=np.zeros(1), deviation=np.ones(1))
    how = Variants(copies=60, bare=20, warp=1.0)
    made = transfer_set(inputs(images, scale), torch.tensor([0]), torch.tensor([0]), how, 3).inputs.values.float()
    whole = torch.from_numpy(images).float()
    assert bool((made[:20] == whole).all())
    assert not bool((made[20:] == whole).flatten(1).all(1).any())
    assert torch.allclose(made.sum((1, 2)), whole.sum(), rtol=0.12)
    down, across = torch.arange(20.0), torch.arange(28.0)
    assert torch.allclose((made.sum(2) * down).sum(1) / made.sum((1, 2)), torch.tensor(9.5), atol=0.6)
    assert torch.allclose((made.sum(1) * across).sum(1) / made.sum((1, 2)), torch.tensor(13.5), atol=0.6)
    far = made.clone()
    far[:, 5:15, 8:20] = 0
    assert float(far.abs().max()) == 0


def test_a_warp_turns_by_the_angle_that_it_says_on_any_shape_of_image() -> None:
    """A long bar: its principal axis turns by up to 40 degrees at ten times the warp, on wide pictures too."""
    images = np.zeros((1, 31, 61), dtype=np.uint8)
    images[0, 14:17, 20:41] = 200
    scale = Scale(mean=np.zeros(1), deviation=np.ones(1))
    how = Variants(copies=400, warp=10.0)
    made = transfer_set(inputs(images, scale), torch.tensor([0]), torch.tensor([0]), how, 3).inputs.values.float()
    made = made / made.sum((1, 2), keepdim=True)
    down, across = torch.arange(31.0)[:, None], torch.arange(61.0)
    y, x = ((made * each).sum((1, 2)) for each in (down, across))
    covariance = (made * (down - y[:, None, None]) * (across - x[:, None, None])).sum((1, 2))
    spread = (made * ((across - x[:, None, None]) ** 2 - (down - y[:, None, None]) ** 2)).sum((1, 2))
    degrees = torch.rad2deg(0.5 * torch.atan2(2 * covariance, spread))
    assert 34 < float(degrees.abs().max()) < 48  # 40, and what shear adds
    assert abs(float(degrees.mean())) < 4


def test_rows_are_not_warped() -> None:
    rows = np.eye(4)
    with pytest.raises(BadInput, match="rows of a table"):
        transfer_set(inputs(rows, scale_of(rows)), torch.arange(4), torch.arange(4), Variants(copies=2, warp=1.0), 0)


def test_a_loss_that_is_not_finite_says_so(folder: Path) -> None:
    images = load(str(folder), 0)
    data, _ = seen(images)
    broken: Loss = lambda logits, batch: logits.sum(-1) * float("nan")
    with pytest.raises(BadInput, match="net: the loss is not finite at step 0; lower its learning rate"):
        trained(data, broken, Fit(epochs=1, batch=20), 4, 2, [0])


def mixture(shares: list[float], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """x [N] from Gaussians at 0, 2, 4, ... in the shares of the classes; labels [N]."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor(shares), count, replacement=True, generator=generator)
    return torch.randn(count, generator=generator) + 2.0 * labels, labels


def posterior(x: Tensor, shares: list[float]) -> Tensor:
    centres = 2.0 * torch.arange(len(shares))
    return -((x[:, None] - centres) ** 2) / 2 + torch.tensor(shares).log()


def test_a_shift_of_priors_is_exact_where_classes_look_the_same() -> None:
    """Saerens, Latinne, Decaestecker 2002, eq. 4: the posterior of one mixture becomes that of the other."""
    here, there = [0.2, 0.3, 0.5], [0.49, 0.02, 0.49]
    x, _ = mixture(here, 200, 0)
    moved = shifted(posterior(x, there), torch.tensor(there), torch.tensor(here))
    assert torch.allclose(moved.softmax(-1), posterior(x, here).softmax(-1), atol=1e-5)


def test_a_matched_bias_finds_the_prior_again() -> None:
    """The same from unlabelled examples: the bias that was taken away is found, within the noise of the sample."""
    here = [0.2, 0.3, 0.5]
    x, labels = mixture(here, 40_000, 1)
    lowered = biased(posterior(x, here), 1, -3.5)
    bias = matching_bias(lowered, 1, 0.3)
    assert bias == pytest.approx(3.5, abs=0.05)
    raised = biased(lowered, 1, bias)
    assert float(raised.softmax(-1)[:, 1].mean()) == pytest.approx(0.3, abs=1e-6)
    assert recall(lowered, labels, 1) < 0.1 < 0.6 < recall(raised, labels, 1)
    with pytest.raises(BadInput, match="the prior of class 1 is 0"):
        matching_bias(lowered, 1, 0.0)


def test_the_dustbin_is_corrected_for_how_specialists_are_sampled() -> None:
    """Half and half in training; one in five in use: the corrected posterior is that of the true mixture."""
    true, sampled = [0.2, 0.8], [0.5, 0.5]
    x, _ = mixture(true, 100, 2)
    found = corrected(posterior(x, sampled), own_share=0.2, sampled_share=0.5)
    assert torch.allclose(found.softmax(-1), posterior(x, true).softmax(-1), atol=1e-5)


@pytest.mark.slow
def test_clusters_are_the_confused_classes_and_a_seed_decides() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 6
    logits = 6.0 * torch.nn.functional.one_hot(labels, 6) + torch.randn(600, 6, generator=generator)
    for pair in ((0, 4), (1, 2)):
        rows = torch.isin(labels, torch.tensor(pair)).nonzero().flatten()
        logits[rows[:, None], torch.tensor(pair)] = 6.0 + 3.0 * torch.randn(len(rows), 2, generator=generator)
    columns = confusion(logits.softmax(-1))
    assert clusters(columns, 4, 3) == clusters(columns, 4, 3)
    assert all(clusters(columns, 4, seed)[:2] == [(0, 4), (1, 2)] for seed in range(5))
    assert clusters(columns, 99, 0) == [], "groups of one are left out"


def test_what_specialists_learn_on() -> None:
    labels = torch.arange(100) % 10
    chosen = half_and_half(labels, (2, 5), 0)
    assert len(chosen) == 40
    assert int(torch.isin(labels[chosen], torch.tensor([2, 5])).sum()) == 20
    assert len(set(chosen.tolist())) == 40
    assert len(half_and_half(labels, tuple(range(8)), 0)) == 100
    assert own_labels(torch.tensor([5, 2, 0, 9]), (2, 5)).tolist() == [1, 0, 2, 2]
    generalist = Nets(4, (3,), 10, [0])
    special = specialist_from(generalist, (2, 5))
    images = torch.randn(1, 7, 4).to(torch.bfloat16)
    assert torch.allclose(special(images)[..., :2], generalist(images)[..., [2, 5]], atol=0.02)


def test_no_specialists_leave_the_generalist_as_it_is() -> None:
    generalist = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(combined(generalist, []).float(), generalist)


def divergences(generalist: Tensor, opinions: Sequence[Opinion], z: Tensor) -> Tensor:
    """The objective of eq. 5 [N], for logits z [N, C]."""
    log_q = z.double().log_softmax(-1)
    total = _kl(generalist.double().log_softmax(-1), log_q)
    for opinion in opinions:
        active = torch.isin(generalist.argmax(-1), torch.tensor(opinion.classes))
        total = total + active * _kl(opinion.log_probabilities.double(), grouped(log_q, opinion.classes))
    return total


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def test_specialists_are_combined_at_the_minimum() -> None:
    """Eq. 5: no direction makes the sum smaller; an opinion that agrees changes nothing."""
    generator = torch.Generator().manual_seed(1)
    generalist = torch.randn(40, 5, generator=generator)
    agreed = Opinion(classes=(1, 3), log_probabilities=grouped(generalist.log_softmax(-1), (1, 3)))
    assert torch.allclose(combined(generalist, [agreed]).softmax(-1).float(), generalist.softmax(-1), atol=1e-6)
    other = Opinion(classes=(0, 1), log_probabilities=torch.randn(40, 3, generator=generator).log_softmax(-1))
    opinions = [agreed, other]
    z = combined(generalist, opinions)
    least = divergences(generalist, opinions, z)
    assert (least < divergences(generalist, opinions, generalist) + 1e-9).all()
    for _ in range(20):
        step = 0.05 * torch.randn(z.shape, generator=generator)
        assert (divergences(generalist, opinions, z + step) >= least - 1e-6).all()
    untouched = ~torch.isin(generalist.argmax(-1), torch.tensor([0, 1, 3]))
    assert torch.allclose(z[untouched].softmax(-1).float(), generalist[untouched].softmax(-1), atol=1e-6)
