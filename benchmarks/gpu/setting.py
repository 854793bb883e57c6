"""What ten_minutes.py works on: the models on disk, random windows, the chip's peak."""

from __future__ import annotations

from pathlib import Path

import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.models import devices, keep_layers, load_model, load_tokenizer, save_model
from flashstill.distill.models.arithmetic import decided
from flashstill.progress import Silent

SMOLLM, SEED = "smollm2-135m-instruct", 0


class Setting:
    """The models on disk, the windows, and how much of everything."""

    def __init__(self, folder: Path, tiny: bool, teacher_named: str, chip: str) -> None:
        from flashstill.distill.teachers import resolve_teacher

        self.folder, self.tiny = folder, tiny
        self.device, self.arithmetic = devices.current(), decided()
        self.length, self.batch, self.steps = (32, 4, 3) if tiny else (1024, 16, 12)
        self.peak_flops = peak_flops(chip, self.arithmetic.precision) if chip else 0.0
        self.teacher = make_tiny(folder / "teacher") if tiny else resolve_teacher(teacher_named, Silent())
        teacher = load_model(self.teacher, self.arithmetic.dtype)
        self.vocabulary = int(teacher.get_input_embeddings().weight.shape[0])
        half = keep_layers(teacher, list(range(0, teacher.config.num_hidden_layers, 2)))
        self.student = folder / "student"
        save_model(half, load_tokenizer(self.teacher), self.student)
        self.parameters = sum(weight.numel() for weight in half.parameters())
        self.packed = random_windows(self.batch * self.steps, self.length, self.vocabulary)

    def figures(self, tokens: int, step_s: list[float]) -> dict[str, float]:
        """tokens/s of the median step after the first, and the share of the peak if it is known."""
        rate = tokens / sorted(step_s[1:])[len(step_s[1:]) // 2]
        found = {"tokens_per_s": round(rate, 1)}
        if self.peak_flops:
            found["mfu"] = round(6 * self.parameters * rate / self.peak_flops, 4)
        return found


def peak_flops(chip: str, precision: str) -> float:
    """FLOP/s of a chip of facts/chips.csv in a precision; fp32 matrix products run as they are, not as tf32."""
    from flashstill.facts.table import load
    from flashstill.hardware.chip import chip_from_facts

    return chip_from_facts(load(), chip).flops_per_s[precision]


def make_tiny(folder: Path) -> Path:
    """A random Llama with a tokenizer of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {"<|end|>": 0, **{letter: 1 + place for place, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>")
    save_model(LlamaForCausalLM(config), fast, folder)
    return folder


def random_windows(windows: int, length: int, vocabulary: int) -> Packed:
    """Random tokens: a step costs the same whatever they are."""
    import numpy as np

    tokens = np.random.default_rng(SEED).integers(0, vocabulary, (windows, length + 1), dtype=np.int32)
    ones = np.ones((windows, length), dtype=np.int32)
    return Packed(tokens=tokens, target_bytes=ones, target_document=np.zeros_like(ones))
