"""Convert a GGUF file to a Hugging Face directory."""

from __future__ import annotations

from pathlib import Path

import torch

from flashstill.arch.adapter.edit import without_weights
from flashstill.distill.models.directories import check_loaded
from flashstill.distill.models.gguf_header import check_gguf
from flashstill.distill.models.loading import quiet, save_model
from flashstill.errors import BadInput, first_line


def convert_gguf(file: Path, target: Path) -> None:
    """Dequantise a GGUF file and write it to `target` as a Hugging Face directory of bfloat16 safetensors.

    Raises BadInput if the file is not a complete GGUF model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    check_gguf(file)
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
    # transformers refuses to save a model that was loaded quantised, even once dequantised: copy it to a fresh one.
    fields = without_weights(loaded.config.to_dict())
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    plain.load_state_dict(loaded.state_dict())
    save_model(plain, tokenizer, target)
