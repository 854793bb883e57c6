"""Signals on the disk: exact ones equal the teacher, sampled ones are unbiased, and none is taken for another's."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import DenseTeacher, Head, Sparse, as_head, forward_kl, logits, sparse_loss
from flashstill.distill.models import STORED, parts
from flashstill.distill.signals import Hidden, Kind, Sampled, Signals, TopK, build, kind, signal_key, store
from flashstill.distill.signals.kinds import narrowest, systematic
from flashstill.distill.training import take
from flashstill.errors import BadInput, DiskTrouble, UnsupportedArchitecture
from flashstill.progress import Silent
from tests.marks import slow
from tests.ties import same_but_for_ties

SILENT = Silent()
KINDS = [Hidden(), Sampled(draws=20, seed=3), TopK(k=16)]
every_kind = pytest.mark.parametrize("signal", KINDS, ids=lambda each: each.key["kind"])
one_kind = pytest.mark.parametrize("signal", [KINDS[0], *slow(*KINDS[1:])], ids=lambda each: each.key["kind"])


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WINDOWS_PER_SHARD", 8)


def made(teacher: Any, packed: Packed, directory: Path, signal: Kind, **more: Any) -> Signals:
    key = signal_key(signal, "teacher", "tokenizer", packed)
    build(teacher, signal, key, packed, directory, SILENT, "s", **more)
    return Signals(directory, key)


def probabilities(teacher: Any, packed: Packed, windows: list[int]) -> Tensor:
    """[N, V], in the rounding of the head's own format."""
    tokens = torch.from_numpy(packed.tokens[windows, :-1].astype(np.int64)).to(teacher.device)
    with torch.inference_mode():
        return torch.softmax(teacher(input_ids=tokens).logits.flatten(0, 1).float(), -1).cpu().clone()


def batch_of(packed: Packed, windows: list[int]) -> Any:
    return take(packed, np.asarray(windows))


class TestExact:
    def test_cached_equals_online(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        said = made(teacher, packed, tmp_path, Hidden())(batch_of(packed, [13, 0]))
        assert isinstance(said, DenseTeacher)
        tokens = torch.from_numpy(packed.tokens[[13, 0], :-1].astype(np.int64)).to(teacher.device)
        with torch.inference_mode():
            logits = teacher(input_ids=tokens).logits.flatten(0, 1).cpu()
            assert torch.equal(said.hidden[0] @ as_head(said.heads[0]).weight.T, logits)

    def test_the_directory_needs_no_teacher(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        signals = made(teacher, packed, tmp_path, Hidden())
        assert signals.head is not None
        assert torch.equal(signals.head.weight, parts(teacher).head.weight.cpu())
        assert signals.bytes > packed.token_count * 32 * 2

    @pytest.mark.parametrize("bias", [False, True])
    def test_a_head_kept_in_bfloat16_multiplies_in_float32(self, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same logits as those of a head that was widened whole, with and without a place to write them."""
        monkeypatch.setattr(logits, "PART_ROWS", 7)  # several parts, the last one smaller
        monkeypatch.setattr(logits, "PART_ELEMENTS", 1)
        drawn = torch.randn(51, 33, generator=torch.Generator().manual_seed(0)).to(STORED)
        stored = Head(weight=drawn[:, 1:], bias=drawn[:, 0].contiguous() if bias else None, cap=5.0)
        hidden = torch.randn(5, 32, generator=torch.Generator().manual_seed(1)).to(STORED)
        narrow, whole = stored.kept_narrow(torch.float32), stored.to(torch.float32)
        assert narrow.weight.dtype == STORED
        assert narrow.dtype == torch.float32
        for rows in (None, 20):
            kept, expected = narrow.first(rows), whole.first(rows).raw(hidden)
            torch.testing.assert_close(kept.raw(hidden), expected, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(kept.raw(hidden, torch.empty_like(expected)), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(narrow.widened().weight, whole.weight)
        assert narrow.widened().multiplied_in is None
        assert narrow.kept_narrow(STORED).dtype == STORED

    def test_signals_keep_the_head_as_it_is_stored(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        made(teacher, packed, tmp_path, Hidden())
        signals = Signals(tmp_path, signal_key(Hidden(), "teacher", "tokenizer", packed), torch.float32)
        assert signals.head is not None
        assert signals.head.dtype == torch.float32
        assert signals.head.weight.dtype == (STORED if teacher.device.type == "cpu" else torch.float32)


class TestSampled:
    def test_draws_are_unbiased(self) -> None:
        """20,000 tokens of one distribution: every id comes as often as its probability says, to five errors."""
        p = torch.softmax(2.0 * torch.randn(50, generator=torch.Generator().manual_seed(0)), -1)
        rows, draws = 20_000, 12
        start = torch.rand(rows, generator=torch.Generator().manual_seed(1))
        ids = systematic(p.expand(rows, -1), draws, start)
        counts = torch.zeros(rows, 50).scatter_add_(1, ids, torch.ones(rows, draws))
        mean, error = counts.mean(0) / draws, counts.std(0) / draws / rows**0.5
        assert bool(((mean - p).abs() <= 5 * error + 1e-6).all())

    def test_no_id_is_a_whole_draw_away_from_its_share(self) -> None:
        p = torch.softmax(2.0 * torch.randn(100, 50, generator=torch.Generator().manual_seed(0)), -1)
        ids = systematic(p, 12, torch.rand(100, generator=torch.Generator().manual_seed(1)))
        counts = torch.zeros(100, 50).scatter_add_(1, ids, torch.ones(100, 12))
        assert float((counts - 12 * p).abs().max()) < 1.0 + 1e-4

    @pytest.mark.slow
    def test_the_gradient_is_unbiased(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """Averaged over seeds, the slope by the student's logits is the forward KL's."""
        p = probabilities(teacher, packed, [0])
        z = torch.randn(p.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).requires_grad_()
        (exact,) = torch.autograd.grad(forward_kl(z, p.double().log()).sum(), z)
        one = packed.first(1)
        slopes = []
        for seed in range(60):
            said = made(teacher, one, tmp_path / str(seed), Sampled(draws=10, seed=seed))(batch_of(one, [0]))
            assert isinstance(said, Sparse)
            (slope,) = torch.autograd.grad(sparse_loss(z, said).sum(), z)
            slopes.append(slope)
        found = torch.stack(slopes)
        away = found.mean(0) - exact
        error = (p.double() * (1 - p.double()) / (10 * 60)).sqrt()  # of independent draws, which systematic ones beat
        often = p > 0.02  # drawn a dozen times in all, so that the error is near normal
        assert int(often.sum()) > 100
        assert float((away[often] / error[often]).abs().max()) < 5.0
        assert float(((away[often] / error[often]) ** 2).mean()) < 1.1
        rare = torch.where(often, 0.0, away).sum(-1)  # the rest of each token together
        mass = torch.where(often, 0.0, p.double()).sum(-1)
        assert float((rare.abs() / (mass * (1 - mass) / 600).sqrt()).max()) < 5.0

    def test_what_is_kept_is_small(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        signals = made(teacher, packed, tmp_path, Sampled(draws=20))
        said = signals(batch_of(packed, [0, 9, 19]))
        assert isinstance(said, Sparse)
        assert torch.allclose(said.weights.sum(-1), torch.ones(96))
        unique = (said.weights > 0).float().sum(-1).mean()
        assert 1 <= float(unique) <= 20
        assert signals.bytes < packed.token_count * (20 * 3 + 1) + 3 * 1024

    @pytest.mark.slow
    def test_the_same_seed_draws_the_same_however_it_is_cut(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        whole = made(teacher, packed, tmp_path / "a", Sampled(seed=7))(batch_of(packed, [3, 17]))
        for share in ((1, 2), (0, 2)):
            key = signal_key(Sampled(seed=7), "teacher", "tokenizer", packed)
            build(teacher, Sampled(seed=7), key, packed, tmp_path / "b", SILENT, "s", share)
        again = Signals(tmp_path / "b", key)(batch_of(packed, [3, 17]))
        assert isinstance(whole, Sparse)
        assert isinstance(again, Sparse)
        assert torch.equal(whole.ids, again.ids)
        assert torch.equal(whole.weights, again.weights)

    def test_too_many_draws(self) -> None:
        with pytest.raises(BadInput, match="300 draws"):
            Sampled(draws=300)


class TestTopK:
    def test_the_likeliest_and_a_bucket(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        said = made(teacher, packed, tmp_path, TopK(k=16))(batch_of(packed, [19, 4]))
        assert isinstance(said, Sparse)
        assert said.tail
        expected = probabilities(teacher, packed, [19, 4]).topk(16)
        assert same_but_for_ties(said.ids, expected.indices, said.weights)
        # A logit between 2 and 4 is rounded to 1/64 in bfloat16, and on some machines otherwise in other batches.
        assert torch.allclose(said.weights, expected.values, rtol=0.05)

    @pytest.mark.slow
    def test_the_whole_vocabulary_is_exact(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """With every id kept the tail is empty and the loss is the forward KL, but for half precision."""
        said = made(teacher, packed, tmp_path, TopK(k=384))(batch_of(packed, [2]))
        assert isinstance(said, Sparse)
        p = probabilities(teacher, packed, [2])
        z = torch.randn(p.shape, generator=torch.Generator().manual_seed(5))
        assert torch.allclose(sparse_loss(z, said), forward_kl(z, p.log()), rtol=0.01, atol=0.01)


def test_ids_of_large_vocabularies_keep_their_bits() -> None:
    assert narrowest(65_536) == torch.uint16
    assert narrowest(65_537) == torch.int32
    assert int(torch.tensor([65_535]).to(torch.uint16).long()) == 65_535


def test_unknown_kinds_name_the_nearest() -> None:
    with pytest.raises(BadInput, match="hidden"):
        kind("hiden", 32, 64, 0)


class TestWhoseSignals:
    @one_kind
    def test_another_teacher_tokenizer_or_packing_is_refused(
        self, teacher: Any, packed: Packed, tmp_path: Path, signal: Kind
    ) -> None:
        made(teacher, packed, tmp_path, signal)
        for who, tokenizer, text, said in (
            ("other", "tokenizer", packed, "another teacher;"),
            ("teacher", "other", packed, "another tokenizer;"),
            ("teacher", "tokenizer", packed.first(3), "another packing and windows;"),
        ):
            key = signal_key(signal, who, tokenizer, text)
            with pytest.raises(BadInput, match=said):
                Signals(tmp_path, key)
            with pytest.raises(BadInput, match=said):
                build(teacher, signal, key, text, tmp_path, SILENT, "s")

    @pytest.mark.slow
    def test_other_settings_are_refused(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        made(teacher, packed, tmp_path, Sampled(draws=20))
        with pytest.raises(BadInput, match="another draws"):
            made(teacher, packed, tmp_path, Sampled(draws=21))
        with pytest.raises(BadInput, match="kind"):
            made(teacher, packed, tmp_path, Hidden())

    @pytest.mark.parametrize("window", [0, 5])  # the first one is also what the model's head is tried on
    def test_a_text_of_a_larger_vocabulary(self, teacher: Any, packed: Packed, tmp_path: Path, window: int) -> None:
        packed.tokens[window, 5] = 384
        with pytest.raises(BadInput, match="holds token 384, but the teacher knows only 384"):
            made(teacher, packed, tmp_path, Hidden())

    def test_a_model_that_bends_its_logits_in_its_own_way_is_refused(self, teacher: Any) -> None:
        forward = teacher.forward

        def bent(**inputs: Any) -> Any:
            output = forward(**inputs)
            output.logits = output.logits**3
            return output

        teacher.forward = bent
        with pytest.raises(UnsupportedArchitecture, match="in another way than by a multiplier or a soft cap"):
            parts(teacher)

    @pytest.mark.slow
    def test_text_made_on_the_way(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        batch = batch_of(packed, [0])
        unknown = type(batch)(tokens=batch.tokens, mask=batch.mask, windows=None)
        with pytest.raises(BadInput, match="generated during training"):
            made(teacher, packed, tmp_path, TopK())(unknown)


class TestDamage:
    @one_kind
    @pytest.mark.parametrize("harm", ["flip", *slow("cut", "remove", "checksum")])
    def test_only_the_damaged_shard_is_made_again(
        self, teacher: Any, packed: Packed, tmp_path: Path, signal: Kind, harm: str
    ) -> None:
        whole = made(teacher, packed, tmp_path, signal)(batch_of(packed, list(range(20))))
        first, second, _ = sorted(tmp_path.glob("windows-*.safetensors"))
        before = first.stat().st_mtime_ns
        content = bytearray(second.read_bytes())
        if harm == "flip":
            content[-5] ^= 1
            second.write_bytes(content)
        elif harm == "cut":
            second.write_bytes(content[: len(content) // 2])
        elif harm == "remove":
            second.unlink()
        else:
            second.with_suffix(".json").write_text("{")
        key = signal_key(signal, "teacher", "tokenizer", packed)
        with pytest.raises(BadInput, match=r"lack windows-00000008 \(1 of 3 shards\)"):
            Signals(tmp_path, key)
        again = made(teacher, packed, tmp_path, signal)(batch_of(packed, list(range(20))))
        ours, theirs = (
            (each.hidden[0],) if isinstance(each, DenseTeacher) else (each.ids, each.weights) for each in (again, whole)
        )
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert first.stat().st_mtime_ns == before

    @pytest.mark.slow
    def test_a_damaged_manifest(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        made(teacher, packed, tmp_path, Hidden())
        (tmp_path / "signals.json").write_text("[]")
        with pytest.raises(BadInput, match="not a manifest of signals"):
            made(teacher, packed, tmp_path, Hidden())

    def test_nothing_built(self, packed: Packed, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="build them first"):
            Signals(tmp_path, signal_key(Hidden(), "teacher", "tokenizer", packed))

    @pytest.mark.slow
    def test_a_full_disk(self, teacher: Any, packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The shards before stay, and the next build goes on from them."""
        written: list[str] = []
        original = safetensors.torch.save_file

        def full(tensors: Any, path: Path) -> None:
            if len(written) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(str(path))
            original(tensors, path)

        monkeypatch.setattr(store, "save_file", full)
        with pytest.raises(DiskTrouble, match="the disk is full"):
            made(teacher, packed, tmp_path, Hidden())
        assert len(list(tmp_path.glob("windows-*.safetensors"))) == 1
        assert not list(tmp_path.glob(".*.part"))
        monkeypatch.setattr(store, "save_file", original)
        assert json.loads((tmp_path / "signals.json").read_text())["windows"] == 20
        made(teacher, packed, tmp_path, Hidden())
