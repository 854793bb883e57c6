"""One side of benchmarks/sampling.py: sample every load, print one JSON line of how fast that went."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from flashstill.distill.generate import Sampling, sample
from flashstill.distill.losses import Workspace
from flashstill.distill.models import load_model, load_tokenizer
from flashstill.distill.reasoning.chains import encoded_prompts
from flashstill.distill.reasoning.problems import load_problems

STOP, VOCABULARY, ATTEMPTS, SPACE = 2, 32, 64, Workspace()


def model_of(dtype: str) -> Any:
    """A Llama of 0.36 million parameters whose distributions are far from flat, the same in every process."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=96, intermediate_size=288, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, head_dim=24, max_position_embeddings=256, tie_word_embeddings=True,
        initializer_range=0.1, pad_token_id=0, bos_token_id=1, eos_token_id=STOP,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().to(getattr(torch, dtype))


def attempts(asked: dict[str, Any], rows: int) -> tuple[Any, np.ndarray, int]:
    """The teacher of a study, prompts of one length, each 64 times, and the id that ends a text."""
    place = Path(asked["seed_directory"])
    tokenizer = load_tokenizer(place / "teacher")
    every = encoded_prompts(load_problems(place / "problems" / "test.jsonl"), tokenizer)
    lengths = np.array([len(prompt) for prompt in every])
    usual = np.bincount(lengths).argmax()
    some = np.array([prompt for prompt in every if len(prompt) == usual])[: rows // ATTEMPTS]
    model = load_model(place / "teacher", getattr(torch, asked["dtype"])).eval()
    return model, some.repeat(ATTEMPTS, 0), int(tokenizer.eos_token_id)


def generated(model: Any, prompts: np.ndarray, batch: int, new: int, stop: int | None) -> tuple[int, float]:
    """Tokens that count and the sum of their log-probabilities, by transformers."""
    counted, summed = 0, 0.0
    for first in range(0, len(prompts), batch):
        rows = torch.from_numpy(prompts[first : first + batch])
        with torch.inference_mode():
            found = model.generate(
                rows, attention_mask=torch.ones_like(rows), do_sample=True, top_k=0, max_new_tokens=new,
                eos_token_id=stop, pad_token_id=0, output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
            drawn = found.sequences[:, rows.shape[1] :]
            logits = torch.stack(found.logits, 1).float()
            log_p = logits.log_softmax(-1).gather(-1, drawn[..., None]).squeeze(-1)
        ended = torch.zeros_like(drawn).bool()
        if stop is not None:
            ended = (drawn == stop).cumsum(1) - (drawn == stop).long() > 0
        counted += int((~ended).sum())
        summed += float(log_p[~ended].sum())
    return counted, summed


def sampled(model: Any, prompts: np.ndarray, batch: int, new: int, stop: int | None) -> tuple[int, float]:
    """The same by ours."""
    stops = () if stop is None else (stop,)
    found = sample(model, list(prompts), Sampling(new_tokens=new, stop=stops, batch=batch), space=SPACE)
    return int(found.lengths.sum()), float(found.log_p.sum())


side, asked = sys.argv[1], json.loads(sys.argv[2])
torch.set_num_threads(asked["threads"])
work = {"transformers": generated, "flashstill": sampled}[side]
plain, line, batch = model_of(asked["dtype"]), {}, asked["batch"]
for name, (rows, new, stops) in asked["loads"].items():
    if name == "attempts":
        model, prompts, stop = attempts(asked, rows)
    else:
        drawn = np.random.default_rng(0).integers(3, VOCABULARY, (rows, asked["prompt"]))
        model, prompts, stop = plain, drawn, STOP if stops else None
    torch.manual_seed(0)
    work(model, prompts[:batch], batch, new, stop)  # warms up
    begun = time.perf_counter()
    counted, summed = work(model, prompts, batch, new, stop)
    seconds = time.perf_counter() - begun
    line[name] = {
        "tokens_per_s": counted / seconds, "mean_log_p": summed / counted, "mean_length": counted / rows,
        "parameters": sum(each.numel() for each in model.parameters()),
    }  # fmt: skip
print(json.dumps(line), flush=True)
