"""A teacher behind a server beside the same model here: log-probabilities, likeliest ids, attempts.

Start a server, then

    python benchmarks/served_teacher.py --url http://127.0.0.1:8000/v1 --name teacher --model DIR

DIR: the Hugging Face directory that the server serves, or the name of a packaged model.  Every API of --api is asked
for the same windows; attempts are asked as `[teacher]` of a deep-think study asks for them, and what the server says of
its own tokens is compared with what the model here says of them.  Were they drawn from another distribution (top-k, a
penalty), the surprise of the drawn tokens would differ from the entropy: `z` is that difference in standard errors.
So would the share of tokens beyond the 20 likeliest from the mass that the model gives them.
The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from flashstill.distill.data.packing import Packed, pack
from flashstill.distill.data.text import load_documents
from flashstill.distill.generate import Sampling, sample
from flashstill.distill.models import load_model, load_tokenizer
from flashstill.distill.reasoning.served import think_served
from flashstill.distill.teachers import resolve_teacher
from flashstill.distill.teachers.served import Server, TokenScores
from flashstill.distill.teachers.served.client import Conversation
from flashstill.distill.teachers.served.making import scores_of
from flashstill.progress import Silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--api", default="vllm,echo")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=32)
    asked = parser.parse_args()
    place = resolve_teacher(asked.model, Silent())
    model, tokenizer = load_model(place, torch.float32).eval(), load_tokenizer(place)
    packed = pack(load_documents("cpython-docs"), tokenizer, asked.tokens, asked.windows)
    found: dict[str, Any] = {"url": asked.url, "k": asked.k, "windows": packed.windows, "tokens": packed.token_count}
    for api in asked.api.split(","):
        server = Server(base=asked.url, name=asked.name, api=api)
        found[api] = compared(server, packed, model, len(tokenizer), asked.k)
        print(api, json.dumps(found[api]))
    server = Server(base=asked.url, name=asked.name)
    prompts = [row[:32].tolist() for row in packed.tokens[: asked.prompts]]
    found["attempts"] = attempted(server, prompts, asked.attempts, asked.new_tokens, model, tokenizer)
    print("attempts", json.dumps(found["attempts"]))
    found["greedy"] = greedy(server, prompts, asked.new_tokens, model, tokenizer)
    print("greedy", json.dumps(found["greedy"]))
    print(json.dumps(found))


def compared(server: Server, packed: Packed, model: Any, vocabulary: int, k: int) -> dict[str, Any]:
    """Differences of log-probabilities in nats over all tokens, and of the k likeliest ids."""
    parts = [(window, part) for window in range(packed.windows) for part in packed.documents_in(window)]
    rows = [packed.tokens[window, part.start : part.stop + 1].tolist() for window, part in parts]
    begun = time.perf_counter()
    answers = asyncio.run(_scores(server, rows, k, vocabulary))
    seconds = time.perf_counter() - begun
    own, top, same, agree, tokens = [0.0], [0.0], 0, 0, 0
    for row, theirs in zip(rows, answers, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row[:-1]])).logits[0].float()
        log_p, targets = torch.log_softmax(logits, -1), torch.tensor(row[1:])
        best = log_p.topk(k).indices
        own += (log_p.gather(-1, targets[:, None])[:, 0] - theirs.target_log_p).abs().tolist()
        top += (log_p.gather(-1, theirs.ids) - theirs.log_p).abs().flatten().tolist()
        same += sum(set(a) == set(b) for a, b in zip(best.tolist(), theirs.ids.tolist(), strict=True))
        agree += int((best[:, 0] == theirs.ids[:, 0]).sum())
        tokens += len(targets)
    return {
        "target_log_p_max": max(own), "target_log_p_mean": sum(own) / tokens, "top_log_p_max": max(top),
        "top_log_p_mean": sum(top) / (tokens * k), "same_top_k": same / tokens, "same_top_1": agree / tokens,
        "tokens": tokens, "tokens_per_s": round(tokens / seconds, 1),
    }  # fmt: skip


async def _scores(server: Server, rows: list[list[int]], k: int, vocabulary: int) -> list[TokenScores]:
    async with Conversation(server, print, "nothing is kept") as talk:
        await talk.longest()
        return list(await asyncio.gather(*(scores_of(talk, row, k, vocabulary) for row in rows)))


def attempted(
    server: Server, prompts: list[list[int]], attempts: int, new_tokens: int, model: Any, tokenizer: Any
) -> dict[str, Any]:
    """What the server says of the texts that it drew, and whether they were drawn from the whole distribution."""
    how = Sampling(new_tokens=new_tokens, stop=(tokenizer.eos_token_id,), seed=1)
    with tempfile.TemporaryDirectory() as folder:
        chains = think_served(server, prompts, attempts, how, tokenizer, {}, Path(folder), Silent(), "attempts")
    worst, surprise, variance, tokens, beyond, expected = 0.0, 0.0, 0.0, 0, 0, 0.0
    for prompt, texts, sums in zip(prompts, chains.tokens, chains.log_p, strict=True):
        for text, said in zip(texts, sums, strict=True):
            ids = text[text >= 0].tolist()
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([prompt + ids[:-1]])).logits[0, len(prompt) - 1 :].double()
            log_p = torch.log_softmax(logits, -1)
            drawn = log_p.gather(-1, torch.tensor(ids)[:, None])[:, 0]
            entropy = -(log_p.exp() * log_p).sum(-1)
            worst = max(worst, abs(float(drawn.sum()) - float(said)) / len(ids))
            surprise += float((-drawn - entropy).sum())
            variance += float(((log_p.exp() * log_p**2).sum(-1) - entropy**2).sum())
            tokens += len(ids)
            twentieth = log_p.topk(20).values
            beyond += int((drawn < twentieth[:, -1]).sum())
            expected += float((1.0 - twentieth.exp().sum(-1)).sum())
    texts = {tuple(row.tolist()) for row in chains.tokens.reshape(-1, new_tokens)}
    return {
        "texts": chains.tokens.shape[0] * attempts, "distinct": len(texts), "tokens": tokens,
        "log_p_max_a_token": worst, "surprise_over_entropy": surprise / tokens, "z": surprise / math.sqrt(variance),
        "beyond_the_20_likeliest": beyond / tokens, "expected_beyond": expected / tokens,
    }  # fmt: skip


def greedy(server: Server, prompts: list[list[int]], new_tokens: int, model: Any, tokenizer: Any) -> dict[str, Any]:
    """How many greedy texts are those of the model here."""
    how = Sampling(new_tokens=new_tokens, temperature=0.0, stop=(tokenizer.eos_token_id,))
    with tempfile.TemporaryDirectory() as folder:
        theirs = think_served(server, prompts, 1, how, tokenizer, {}, Path(folder), Silent(), "greedy").tokens[:, 0]
    ours = sample(model, prompts, how).tokens
    return {"texts": len(prompts), "equal": int((theirs == ours).all(-1).sum())}


if __name__ == "__main__":
    main()
