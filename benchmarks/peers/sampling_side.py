"""One side of benchmarks/sampling.py: sample every load, print one JSON line of how fast that went."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from flashstill.distill.losses import Workspace
from flashstill.distill.sampling import Sampling, sample

STOP, VOCABULARY, SPACE = 2, 32, Workspace()


def model_of(dtype: str) -> Any:
    """A Llama of 0.36 million parameters whose distributions are far from flat, the same in every process."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=96, intermediate_size=288, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, head_dim=24, max_position_embeddings=256, tie_word_embeddings=True,
        initializer_range=0.1, pad_token_id=0, bos_token_id=1, eos_token_id=STOP,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().to(getattr(torch, dtype))


def generated(model: Any, prompts: np.ndarray, asked: dict[str, Any], stops: bool) -> tuple[int, float]:
    """Tokens that count and the sum of their log-probabilities, by transformers."""
    counted, summed = 0, 0.0
    for first in range(0, len(prompts), asked["batch"]):
        rows = torch.from_numpy(prompts[first : first + asked["batch"]])
        with torch.inference_mode():
            found = model.generate(
                rows, attention_mask=torch.ones_like(rows), do_sample=True, top_k=0, max_new_tokens=asked["new"],
                eos_token_id=STOP if stops else None, output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
            drawn = found.sequences[:, rows.shape[1] :]
            logits = torch.stack(found.logits, 1).float()
            log_p = logits.log_softmax(-1).gather(-1, drawn[..., None]).squeeze(-1)
        ended = (drawn == STOP).cumsum(1) - (drawn == STOP).long() > 0 if stops else torch.zeros_like(drawn).bool()
        counted += int((~ended).sum())
        summed += float(log_p[~ended].sum())
    return counted, summed


def sampled(model: Any, prompts: np.ndarray, asked: dict[str, Any], stops: bool) -> tuple[int, float]:
    """The same by ours."""
    settings = Sampling(new_tokens=asked["new"], stop=(STOP,) if stops else (), batch=asked["batch"])
    found = sample(model, list(prompts), settings, space=SPACE)
    return int(found.lengths.sum()), float(found.log_p.sum())


side, asked = sys.argv[1], json.loads(sys.argv[2])
torch.set_num_threads(asked["threads"])
model, work = model_of(asked["dtype"]), {"transformers": generated, "flashstill": sampled}[side]
line: dict[str, Any] = {"parameters": sum(each.numel() for each in model.parameters())}
for name, (rows, stops) in asked["loads"].items():
    prompts = np.random.default_rng(0).integers(3, VOCABULARY, (rows, asked["prompt"]))
    torch.manual_seed(0)
    work(model, prompts[: asked["batch"]], asked, stops)  # warms up
    begun = time.perf_counter()
    counted, summed = work(model, prompts, asked, stops)
    seconds = time.perf_counter() - begun
    line[name] = {"tokens_per_s": counted / seconds, "mean_log_p": summed / counted, "mean_length": counted / rows}
print(json.dumps(line), flush=True)
