"""No document of a window sees another: outputs, signals, losses and evaluation are those of each document alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import head_loss
from flashstill.distill.models import parts
from flashstill.distill.models.documents import POSITIONS, ROWS, positions, separation, states_of
from flashstill.distill.signals import Hidden, Signals, build, hidden_states, signal_key
from flashstill.distill.teachers import Online
from flashstill.distill.training import TrainRecipe, hard, take, train
from flashstill.distill.training.batches import Offline
from flashstill.evaluate.token_scores import score_tokens
from flashstill.progress import Silent
from tests import zoo
from tests.marks import slow

STARTS = torch.tensor([[0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]])
PARTS = [(0, 0, 3), (0, 3, 8), (0, 8, 9), (0, 9, 14), (1, 0, 13), (1, 13, 14)]
"""(row, first, stop) of each document of STARTS"""
FAMILIES = (
    "gpt2", "gpt_neo", "gptj", "opt", "bloom", "falcon", "mpt", "biogpt", "rwkv", "xlstm", "recurrent_gemma", "mamba2",
    "falcon_mamba", "falcon_h1", "jamba", "bamba", "granitemoehybrid", "nemotron_h", "lfm2", "qwen3_next",
    "qwen3_5_text", "olmo_hybrid", "minimax", "kimi_linear", "gpt_oss", "qwen3_moe", "deepseek_v3", "gemma2",
    "gemma3_text", "cohere2", "dbrx",
)  # fmt: skip
"""with every way of marking positions, and of carrying a state along a sequence; of the sparse attention of DeepSeek
V3.2 transformers chooses the tokens before it hides later ones, so that a window must not be longer than its choice"""


def ids_for(model: Any, shape: tuple[int, ...] = (2, 14)) -> Tensor:
    return torch.randint(3, 60, shape, generator=torch.Generator().manual_seed(1))


def test_positions_start_again() -> None:
    assert positions(STARTS)[0].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("llama", POSITIONS), ("mamba", ROWS),
        *slow(*((name, "") for name in FAMILIES)),
    ],
)  # fmt: skip
def test_a_document_in_a_window_is_the_document_alone(name: str, way: str) -> None:
    model = zoo.tiny(name)
    try:
        model_parts = parts(model.double())
        model_parts.hidden(ids_for(model)[:, :2])
        tolerance = 1e-6  # rotary angles stay in float32
    except RuntimeError:  # experts that are multiplied in 32 bits at most
        model_parts, tolerance = parts(model.float()), 2e-5
    ids = ids_for(model)
    with torch.inference_mode():
        together, once = states_of(model_parts, ids, STARTS), states_of(model_parts, ids, STARTS, one_pass=True)
        for row, first, stop in PARTS:
            alone = model_parts.hidden(ids[row : row + 1, first:stop])[0]
            for states in (together, once):
                assert (states[row, first:stop] - alone).norm() <= tolerance * alone.norm(), (row, first)
    assert not way or separation(model_parts) == way


def packed_of(model: Any) -> Packed:
    """Two windows with the documents of STARTS."""
    tokens = ids_for(model, (2, 15)).numpy().astype(np.int32)
    document = np.cumsum(STARTS.numpy(), axis=1).astype(np.int32) + np.array([[0], [4]], dtype=np.int32)
    return Packed(
        tokens=tokens, target_bytes=np.ones_like(document), target_document=document,
        starts=STARTS.numpy().astype(np.int32),
    )  # fmt: skip


def mean_nll_alone(model: Any, packed: Packed) -> Tensor:
    """Reference: plain transformers on each document by itself."""
    nll = []
    for row, first, stop in PARTS:
        tokens = torch.from_numpy(packed.tokens[row, first : stop + 1].astype(np.int64))
        logits = model(input_ids=tokens[None, :-1], use_cache=False).logits[0]
        nll.append(torch.nn.functional.cross_entropy(logits.float(), tokens[1:], reduction="none"))
    return torch.cat(nll).mean()


@pytest.mark.parametrize("name", ["llama", *slow("mamba", "jamba", "qwen3_moe")])
def test_loss_and_gradient_are_those_of_the_documents_alone(name: str, tmp_path: Path) -> None:
    model = zoo.tiny(name)
    packed = packed_of(model)
    mean_nll_alone(model, packed).backward()  # type: ignore[no-untyped-call]
    wanted = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    loss_wanted = float(mean_nll_alone(model, packed).detach())
    model.zero_grad()
    batch = take(packed, np.arange(2))
    hidden = hidden_states(model, batch.inputs, batch.starts).flatten(0, 1)
    weights = torch.full((28,), 1 / 28)
    loss = head_loss(hidden, parts(model).head, hard(batch), weights)[0]
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(loss_wanted, rel=1e-5)
    for key, value in model.named_parameters():
        if key in wanted and value.grad is not None:
            assert torch.allclose(value.grad, wanted[key], rtol=1e-3, atol=1e-5), key
    recipe = TrainRecipe(tokens=28, windows_per_step=2, learning_rate=1e-9, checkpoint_every_steps=9)
    train(model, Offline(packed, 2, 0), hard, recipe, tmp_path, Silent(), "t")
    (row,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert row["loss"] == pytest.approx(loss_wanted, abs=2e-6)


@pytest.mark.parametrize("name", ["llama", *slow("mamba")])
def test_signals_teachers_and_evaluation_use_the_same_mask(name: str, tmp_path: Path) -> None:
    model = zoo.tiny(name)
    packed = packed_of(model)
    batch = take(packed, np.arange(2))
    key = signal_key(Hidden(), "teacher", "tokenizer", packed)
    build(model, Hidden(), key, packed, tmp_path, Silent(), "build")
    stored = Signals(tmp_path, key)(batch)
    online = Online(model, as_kept=True)(batch)
    assert torch.equal(stored.hidden[0], online.hidden[0])  # type: ignore[union-attr]
    scores = score_tokens({"m": model}, packed, None, lambda *_: None)["m"]
    assert scores.nll.mean() == pytest.approx(float(mean_nll_alone(model, packed).detach()), rel=1e-5)
    seen = score_tokens({"m": model}, dataclasses.replace(packed, starts=None), None, lambda *_: None)["m"]
    assert abs(seen.nll.mean() - scores.nll.mean()) > 1e-3, "files of earlier versions: documents see each other"
