"""Convert a GGUF file to a Hugging Face directory.

How text is split before merging is a name in the file, of a rule that is code of llama.cpp.  transformers' reader knows
some of the names and takes GPT-2's rule for all others; those of which this is wrong are set here or refused.  Without
a name the rule is guessed from the vocabulary (gguf_splitting.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flashstill.arch.adapter.edit import without_weights
from flashstill.distill.models.gguf_header import check_gguf
from flashstill.distill.models.gguf_splitting import guessed_rule, pre_tokenizer
from flashstill.distill.models.loaded_tensors import check_loaded
from flashstill.distill.models.loading import quiet, save_model
from flashstill.errors import BadInput, first_line, shortened

DIGITS_FIRST = (
    "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b",
)  # fmt: skip
"""each digit by itself, then GPT-2's rule"""
AS_GPT2 = (
    "gpt-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "phi-2", "gigachat", "a.x-4.0", "mellum",
    "exaone4",
)  # fmt: skip
"""GPT-2's rule"""
UNNAMED = ("", "default")
"""files without a name, or with this one, do not say"""


def convert_gguf(
    file: Path, target: Path, as_transformers: bool = False, say: Callable[[str], None] | None = None
) -> None:
    """Dequantise a GGUF file and write it to `target` as a Hugging Face directory of bfloat16 safetensors.

    as_transformers: leave the tokenizer as transformers reads it; say: is told what was guessed.  Raises BadInput if
    the file is not a complete GGUF model, or splits text by a rule that is not known here.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    facts = check_gguf(file)
    quiet()
    try:
        loaded, info = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.float32,
            local_files_only=True,
            quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except Exception as error:
        raise BadInput(f"{file} cannot be read as a GGUF model: {first_line(error)}") from error
    check_loaded(file, loaded, info)
    if facts.get("tokenizer.ggml.model") == "gpt2" and not as_transformers:
        name = _rule(facts.get("tokenizer.ggml.pre", ""))
        if name in UNNAMED:
            name, guess = guessed_rule(tokenizer, file)
            if say is not None:
                say(guess)
        _split_as_told(tokenizer, name, file)
    # transformers refuses to save a model that was loaded quantised, even once dequantised: copy it to a fresh one.
    fields = without_weights(loaded.config.to_dict())
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    plain.load_state_dict(loaded.state_dict())
    save_model(plain, tokenizer, target)


def _rule(named: Any) -> str:
    """The rule's name. named: as the header gives it, None if it is too long for a name."""
    return "of a very long name" if named is None else str(named)


def names_no_rule(file: Path) -> bool:
    """Whether a GGUF file has a byte-level BPE tokenizer and does not say how it splits text."""
    facts = check_gguf(file)
    return facts.get("tokenizer.ggml.model") == "gpt2" and _rule(facts.get("tokenizer.ggml.pre", "")) in UNNAMED


def _split_as_told(tokenizer: Any, name: str, file: Path) -> None:
    """Set the rule `name` where transformers' reader took GPT-2's for it."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if name in DIGITS_FIRST:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer("smollm")
    elif name not in (*AS_GPT2, *GGUF_PRE_TOKENIZER_SPLITS):
        raise BadInput(
            f"{file} splits text by llama.cpp's rule {shortened(name)!r}, which is not known here; give the model's"
            " Hugging Face directory"
        )
