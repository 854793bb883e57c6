"""A tiny model that chats: a byte-level tokenizer with the special tokens of a chat format, and conversations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from flashstill.distill.data import rendering
from flashstill.distill.data.chats import Reading, whole_pieces
from flashstill.distill.data.layouts import Columns, document_of
from flashstill.distill.data.pieces import Piece
from flashstill.distill.data.templates import Renderer, template_of

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""OpenAI's format of 2023, as Qwen and SmolLM2 use it"""
TAGGED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|end|>", "<|im_start|>", "<|im_end|>")


class InThisProcess(Renderer):
    """Renders without a child process, which takes seconds to begin."""

    def _reply(self, question: bytes) -> dict[str, Any]:
        chat = json.loads(question)
        try:
            return rendering.Renderer(json.loads(self._job)).texts(chat)
        except rendering.Refused as error:
            return {"refused": str(error)}
        except Exception as error:
            return {"refused": f"is refused by the chat template: {error}"}


def byte_tokenizer(specials: tuple[str, ...] = SPECIALS, template: str = CHATML, bos: str = "") -> Any:
    """A fast tokenizer whose tokens are the 256 bytes and the special tokens, of which the first ends a text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in specials])
    more = {"bos_token": bos} if bos else {}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=specials[0], **more)
    fast.chat_template = template or None
    return fast


def chatting_model(directory: Path, layers: int = 2, seed: int = 0, template: str = CHATML) -> Path:
    """A Llama 16 wide with random weights and `byte_tokenizer`: a Hugging Face directory."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=256 + len(SPECIALS), hidden_size=16, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        initializer_range=0.3, bos_token_id=None, eos_token_id=256, pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    byte_tokenizer(template=template).save_pretrained(directory)
    return directory


def conversations(count: int) -> list[dict[str, Any]]:
    """Records of one or two turns, all different."""
    chips = ("GPU", "TPU", "LPU")
    made = []
    for number in range(count):
        turns = [
            ("user", f"How fast is {chips[number % 3]} {number}?"),
            ("assistant", f"It does {number * 7 % 101} t/s."),
        ]
        if number % 2:
            turns += [("user", "And half of it?"), ("assistant", f"{number * 7 % 101 / 2:g} t/s.")]
        made.append({"messages": [{"role": role, "content": content} for role, content in turns]})
    return made


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def reading_of(template: str, **settings: Any) -> Reading:
    """How a byte tokenizer with a template reads conversations."""
    tokenizer = byte_tokenizer(template=template)
    found = template_of(tokenizer)
    return Reading(tokenizer=tokenizer, renderer=InThisProcess(found) if found else None, **settings)


TURNS = [
    {"role": "user", "content": "What?"},
    {"role": "assistant", "content": "<think>hm</think>This."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes, ça va."},
]


def learned(template: str, messages: list[dict[str, Any]] = TURNS, learn: str = "assistant") -> list[list[str]]:
    """For each piece the texts that are learned."""
    reading = reading_of(template, learn=learn)
    pieces = whole_pieces(document_of({"messages": messages}, "x", Columns()), reading)
    return [runs(piece, reading.tokenizer) for piece in pieces]


def runs(piece: Piece, tokenizer: Any) -> list[str]:
    """The runs of learned tokens, as text."""
    assert piece.counts is not None
    edges = np.flatnonzero(np.diff(np.pad(piece.counts.astype(int), 1)))
    return [tokenizer.decode(piece.tokens[first:last]) for first, last in edges.reshape(-1, 2)]


RECIPE = """
name = "chat"
data = "{data}"
out_of_domain = "{other}"
[[teachers]]
model = "{teacher}"
[student]
kind = "depth"
keep_layers = 1
[text]
window_tokens = 96
train_tokens = 1920
heldout_tokens = 192
out_of_domain_tokens = 192
[records]
bad_share = 0.05
[train]
tokens = 768
windows_per_step = 4
arithmetic = "fp32"
"""
"""a small distillation of conversations"""
