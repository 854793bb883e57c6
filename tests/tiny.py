"""A tiny teacher with a real tokenizer, its text, and a family that runs in seconds."""

from __future__ import annotations

from pathlib import Path


def make_sample_text() -> str:
    """Some hundred sentences that a tiny tokenizer can learn."""
    nouns = ("cache", "token", "chip", "weight", "link", "batch", "model", "teacher")
    verbs = ("moves", "holds", "costs", "feeds", "joins", "saves", "reads", "shares")
    lines = []
    for i in range(400):
        noun, verb, other = nouns[i % 8], verbs[(i // 8) % 8], nouns[(i // 3) % 8]
        lines.append(f"The {noun} number {i} {verb} the {other}, and {i * 7 % 101} more of them wait.")
        if i % 8 == 7:
            lines.append("")
    return "\n".join(lines)


def make_tiny_teacher(directory: Path, sample_text: str) -> Path:
    """A Llama of 6 blocks, 32 wide, with a byte-level tokenizer: a Hugging Face directory."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=384, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([sample_text], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


def make_other_text() -> str:
    """Text of another kind, for the out-of-domain set."""
    return "\n\n".join(
        f"def step_{i}(x):\n    y = x * {i} + {i * i}\n    return y if y > {i} else -y" for i in range(300)
    )


def family_text(teacher: object, data: object, other: object = "other.txt") -> str:
    """A family of two tiny students that runs in seconds; `other` is the out-of-domain text."""
    return FAMILY.format(teacher=teacher, data=data, other=other)


FAMILY = """
name = "tiny"
seed = 3
teacher = "{teacher}"
data = "{data}"
out_of_domain = "{other}"

[text]
window_tokens = 32
train_tokens = 2048
heldout_tokens = 256
out_of_domain_tokens = 256

[train]
tokens = 2048
windows_per_step = 2
learning_rate = 1e-3
checkpoint_every_steps = 3
arithmetic = "fp32"

[measure]
batches = [1, 2]
context = 16
repeats = 2

[cost]
chips = ["h100-sxm", "tpu-v5e"]
batches = [1, 16, 256]
context = 128

[[students]]
name = "half"
keep_layers = 3

[[students]]
name = "most"
keep_layers = 5
tokens = 512
"""

FIVE_KINDS = """
name = "kinds"
seed = 3
teacher = "{teacher}"
data = "{data}"
out_of_domain = "{other}"

[text]
window_tokens = 32
train_tokens = 1024
heldout_tokens = 256
out_of_domain_tokens = 256

[train]
tokens = 512
windows_per_step = 2
learning_rate = 1e-3
checkpoint_every_steps = 3
arithmetic = "fp32"

[measure]
batches = [1]
context = 16
repeats = 1

[cost]
chips = ["h100-sxm"]
batches = [1, 16]
context = 128

[[students]]
name = "shallow"
keep_layers = 3

[[students]]
name = "narrow"
kind = "width"
feed_forward = 32
key_heads = 1

[[students]]
name = "experts"
kind = "upcycle"
experts = 12
experts_per_token = 2
shared_experts = 2
expert_neurons = 8

[[students]]
name = "int4"
kind = "copy"
quantise = "int4"
group = 16
train = {{ learning_rate = 1e-4 }}

[[students]]
name = "writer"
keep_layers = 4
signals = {{ kind = "none" }}
regime = {{ kind = "on-policy", prompt_tokens = 8, mix = 0.5, replay = 0.25, every = 2 }}
losses = [{{ divergence = "jsd:0.5" }}]
"""
