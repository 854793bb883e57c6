"""Two tokenisations of one text: every byte in one span, and losses that are those of plain autograd."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flashstill.distill.data.alignment import cuts, token_ends
from flashstill.distill.data.layouts import Document
from flashstill.distill.data.packing import pack
from flashstill.distill.data.teacher_windows import teacher_windows
from flashstill.distill.data.token_bytes import common_ids, token_bytes
from flashstill.distill.losses import DenseTeacher, SpanTeacher, Term, as_head, divergence, head_loss, span_divergence
from flashstill.distill.losses import spans as spans_module
from tests.two_tokenizers import OTHER, TEXTS, byte_level, unigram


@functools.cache
def tokenizers() -> dict[str, Any]:
    return {"bpe": byte_level(), "other": byte_level(300, OTHER), "unigram": unigram()}


PAIRS = [("bpe", "other"), ("other", "bpe"), ("bpe", "unigram"), ("unigram", "other"), ("bpe", "bpe")]
words = st.lists(
    st.one_of(
        st.sampled_from(
            ["The quick", " brown", "jümps", "\u2013", " 日", "語", "€", "  ", "\n", "ﬁ", "½", "e\u0301", "\U0001f469"]
        ),
        st.text(max_size=6),
    ),
    min_size=1, max_size=12,
).map("".join)  # fmt: skip


def encoded(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    from flashstill.distill.data.pieces import text_bytes

    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return found["input_ids"], text_bytes(text, found["offset_mapping"])


@given(words, st.sampled_from(PAIRS))
def test_every_byte_is_in_one_span_on_both_sides(text: str, pair: tuple[str, str]) -> None:
    text = text.encode(errors="ignore").decode()
    sides = [tokenizers()[name] for name in pair]
    tables = [_table(name) for name in pair]
    content = text.encode()
    ends = [token_ends(table, *encoded(side, text), content) for side, table in zip(sides, tables, strict=True)]
    own, known = cuts(ends[0].ends, ends[1].ends, is_whole=True)
    assert len(own) == len(known)
    assert (np.diff(own) > 0).all()
    assert (np.diff(known) > 0).all()
    if not len(own):
        assert 0 in (len(ends[0].ends), len(ends[1].ends))
        return
    assert (own[-1], known[-1]) == (len(ends[0].ends) - 1, len(ends[1].ends) - 1), "every token is in a span"
    # all cuts but the last, where a tokenizer may have left out the end of the text, are at the same byte
    assert (ends[0].ends[own[:-1]] == ends[1].ends[known[:-1]]).all()
    for side, places in zip(ends, (own, known), strict=True):
        if side.is_exact:
            assert side.ends[places[-1]] == len(content)
    if all(side.is_exact for side in ends):
        spelt = []
        for side, table, places in zip(sides, tables, (own, known), strict=True):
            tokens = _spelt(table, encoded(side, text)[0])
            spelt.append([b"".join(tokens[first:last]) for first, last in itertools.pairwise([0, *(places + 1)])])
        # SentencePiece puts a space before the text
        assert [each.removeprefix(b" ") for each in spelt[0]] == [each.removeprefix(b" ") for each in spelt[1]]


@functools.cache
def _table(name: str) -> list[bytes | None]:
    return token_bytes(tokenizers()[name])


def _spelt(table: list[bytes | None], ids: list[int]) -> list[bytes]:
    return [table[each] or b"" for each in ids]


def test_characters_that_are_split_over_tokens() -> None:
    """Both sides cut inside the character: the cut is a byte's, not the character's."""
    table = [b"\xe6", b"\x97\xa5", b"\xe6\x97", b"\xa5", "日".encode()]
    text = "日".encode()
    ends = [token_ends(table, ids, [3, 0], text) for ids in ([0, 1], [2, 3])]
    assert [each.ends.tolist() for each in ends] == [[1, 3], [2, 3]]
    assert [each.tolist() for each in cuts(ends[0].ends, ends[1].ends, True)] == [[1], [1]]
    same = token_ends(table, [0, 1], [3, 0], text).ends
    assert [each.tolist() for each in cuts(same, same, True)] == [[0, 1], [0, 1]]


def test_common_ids() -> None:
    bpe, other, metaspace = tokenizers().values()
    assert (common_ids(bpe, bpe).student == common_ids(bpe, bpe).teacher).all()
    assert len(common_ids(bpe, bpe).student) == len(bpe)
    for first, second in ((bpe, other), (bpe, metaspace), (metaspace, bpe)):
        common = common_ids(first, second)
        assert len(set(common.student.tolist())) == len(common.student) == len(set(common.teacher.tolist()))
        assert (first.eos_token_id, second.eos_token_id) in zip(common.student, common.teacher, strict=True)
        tables = token_bytes(first), token_bytes(second)
        for own, known in zip(common.student, common.teacher, strict=True):
            assert tables[0][own] == tables[1][known]
    pieces = common_ids(bpe, metaspace)
    assert len(pieces.student) > 30, "'Ġ' and '▁' are one byte"


DOCUMENTS = [Document(name=str(place), text=text) for place, text in enumerate(TEXTS)]


@pytest.mark.parametrize(("own", "known"), PAIRS)
def test_windows_of_both(own: str, known: str) -> None:
    student, teacher = tokenizers()[own], tokenizers()[known]
    packed = pack(DOCUMENTS, student, 32, 30)
    windows, notes = teacher_windows(packed, DOCUMENTS, student, teacher)
    assert (windows.student_span.max(-1) == windows.teacher_span.max(-1)).all()
    covered = (windows.student_span >= 0).mean()
    assert covered > 0.7
    assert notes.unaligned_tokens == (windows.student_span < 0).sum()
    for place in range(packed.windows):
        for number in range(windows.student_span[place].max() + 1):
            mine = packed.tokens[place, 1:][windows.student_span[place] == number]
            theirs = windows.packed.tokens[place, 1:][windows.teacher_span[place] == number]
            texts = [
                side.decode(ids, skip_special_tokens=True).strip() for side, ids in ((student, mine), (teacher, theirs))
            ]
            if (
                "\ufffd" not in texts[0] + texts[1]
                and "<unk>" not in texts[0] + texts[1]
                and known != "unigram"
                and own != "unigram"
            ):
                assert texts[0] == texts[1]
    if own == known:
        assert np.array_equal(windows.packed.tokens, packed.tokens)
        assert windows.packed.starts is not None
        assert packed.starts is not None
        assert np.array_equal(windows.packed.starts, packed.starts)
        assert np.array_equal(windows.student_span, windows.teacher_span)
        assert covered == 1.0


# ---- losses, against plain autograd in float64 ----


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SPAN = torch.tensor([0, 1, 1, 2, -1, 3, 3, 3, 4, 5])
KNOWN = torch.tensor([-1, 0, 0, 1, 2, 3, 3, 4, 4, 5])


def teacher_of(same: bool = False) -> SpanTeacher:
    vocabulary = 12 if same else 9
    known_targets = torch.arange(10) * 7 % vocabulary
    return SpanTeacher(
        teacher=DenseTeacher(hidden=(drawn(10, 6, seed=1),), heads=(drawn(vocabulary, 6, seed=2),)),
        targets=known_targets if same else torch.arange(10) * 5 % 12, known_targets=known_targets,
        span=torch.arange(10) if same else SPAN, known_span=torch.arange(10) if same else KNOWN,
        common=torch.arange(12) if same else torch.tensor([3, 0, 11, 7, 5]),
        known_common=torch.arange(12) if same else torch.tensor([0, 1, 4, 7, 8]),
    )  # fmt: skip


def reference(
    name: str, hidden: Tensor, head: Tensor, teacher: SpanTeacher, weights: Tensor, temperature: float
) -> Tensor:
    """The definition, a span at a time."""
    q = torch.softmax(hidden @ head.T / temperature, -1)
    p = torch.softmax(as_head(teacher.teacher.heads[0]).logits(teacher.teacher.hidden[0]) / temperature, -1)
    ours, theirs = teacher.common, teacher.known_common
    total = torch.zeros((), dtype=torch.float64)
    for number in range(int(teacher.span.max()) + 1):
        mine, known = (teacher.span == number).nonzero().flatten(), (teacher.known_span == number).nonzero().flatten()
        chosen = q[mine, teacher.targets[mine]], p[known, teacher.known_targets[known]]
        merged_q, merged_p = q[mine[-1]] * chosen[0][:-1].prod(), p[known[-1]] * chosen[1][:-1].prod()
        keep_q, keep_p = torch.ones(len(merged_q), dtype=torch.bool), torch.ones(len(merged_p), dtype=torch.bool)
        keep_q[ours], keep_p[theirs] = False, False
        if name == "uld":
            value = _sorted(merged_p, merged_q)
        elif name.startswith("gold"):
            pairs = (
                divergence("forward-kl" if name == "gold" else "jsd:0.5")
                .terms(merged_p[theirs].log(), merged_q[ours].log())
                .sum()
            )
            share = len(ours) / len(merged_p)
            value = share * pairs + (1 - share) * _sorted(merged_p[keep_p], merged_q[keep_q])
        elif len(mine) == len(known) == 1:
            events = [
                torch.cat([each[ids], each[keep].sum()[None]])
                for each, ids, keep in ((merged_p, theirs, keep_p), (merged_q, ours, keep_q))
            ]
            events = [each[:-1] if not keep_p.any() else each for each in events]
            value = divergence(name).terms(events[0].log(), events[1].log()).sum()
        else:
            outcomes = [torch.stack([each.prod(), 1 - each.prod()]).log() for each in (chosen[1], chosen[0])]
            value = divergence(name).terms(*outcomes).sum()
        total = total + weights[mine[-1]] * value
    return total * (temperature if name in ("uld", "total-variation") else temperature**2)


def _sorted(p: Tensor, q: Tensor) -> Tensor:
    size = max(len(p), len(q))
    first, second = (
        torch.nn.functional.pad(each.sort(descending=True).values, (0, size - len(each))) for each in (p, q)
    )
    return (first - second).abs().sum()


@pytest.mark.parametrize(
    ("name", "temperature", "at_a_time"),
    [
        ("forward-kl", 1.0, 2**23), ("forward-kl", 2.0, 1), ("reverse-kl", 1.0, 1), ("jsd:0.5", 2.0, 1),
        ("total-variation", 2.0, 1), ("skew-kl:0.1", 1.0, 1), ("uld", 2.0, 1), ("gold", 1.0, 1), ("gold:0.5", 2.0, 1),
    ],
)  # fmt: skip
def test_values_and_gradients(name: str, temperature: float, at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans_module, "LOGITS_AT_A_TIME", at_a_time)
    weights, teacher = torch.rand(10, dtype=torch.float64), teacher_of()
    found = []
    for ours in (True, False):
        hidden, head = drawn(10, 4, seed=3).requires_grad_(), drawn(12, 4, seed=4).requires_grad_()
        if ours:
            term = Term(teacher=teacher, divergence=span_divergence(name), temperature=temperature, weight=0.7)
            hard = Term(teacher=_hard(teacher), weight=0.3)
            value = head_loss(hidden, head, [term, hard], weights)[0]
        else:
            value = 0.7 * reference(name, hidden, head, teacher, weights, temperature)
            nll = -torch.log_softmax(hidden @ head.T, -1)[torch.arange(10), teacher.targets]
            value = value + 0.3 * (weights * nll).sum()
        value.backward()  # type: ignore[no-untyped-call]
        found.append((value.detach(), hidden.grad, head.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


def _hard(teacher: SpanTeacher) -> Any:
    from flashstill.distill.losses import one_hot

    sparse = one_hot(teacher.targets)
    return dataclasses.replace(sparse, weights=sparse.weights.double())


@pytest.mark.parametrize("name", ["forward-kl", "reverse-kl", "jsd:0.5", "total-variation"])
def test_one_tokenizer_is_the_ordinary_loss(name: str) -> None:
    teacher, weights = teacher_of(same=True), torch.rand(10, dtype=torch.float64)
    found = []
    for given_teacher in (teacher, teacher.teacher):
        hidden, head = drawn(10, 4, seed=3).requires_grad_(), drawn(12, 4, seed=4).requires_grad_()
        term = Term(teacher=given_teacher, divergence=divergence(name), temperature=2.0)
        value = head_loss(hidden, head, [term], weights)[0]
        value.backward()  # type: ignore[no-untyped-call]
        found.append((value.detach(), hidden.grad, head.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    gold = Term(teacher=teacher, divergence=span_divergence("gold"))
    plain = Term(teacher=teacher.teacher)
    hidden, head = drawn(10, 4, seed=3), drawn(12, 4, seed=4)
    torch.testing.assert_close(*(head_loss(hidden, head, [each], weights)[0] for each in (gold, plain)))


def test_losses_by_name() -> None:
    from flashstill.errors import BadInput

    assert span_divergence("gold:0.5").name == "gold:0.5"
    for name in ("gold:1.5", "gold:x", "uld:2", "sorted"):
        with pytest.raises(BadInput):
            span_divergence(name)
