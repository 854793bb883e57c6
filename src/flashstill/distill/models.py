"""Hugging Face directories in and out, without ever running a model's own code.

Only safetensors weights are read; `auto_map` (remote code) is never followed; nothing is fetched from a hub.
A model of a family is one of the classes that transformers itself ships.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["USE_HUB_KERNELS"] = "0"  # a kernel of a hub is code that a model's configuration may ask for
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' own bars; ours tell the time left

import torch
from torch import Tensor, nn

from flashstill.distill.checksums import verify_checksums, write_checksums
from flashstill.distill.data.tokenizing import check_tokenizer
from flashstill.distill.directories import (
    check_directory,
    check_loaded,
    check_size,
    check_small_files,
    plain_config,
    shapes,
)
from flashstill.distill.gguf_header import check_gguf
from flashstill.errors import BadInput, UnsupportedArchitecture
from flashstill.files import replacing_directory, sha256

STORED = torch.bfloat16
"""the format of weights on the disk, whatever they are multiplied in (distill/arithmetic.py)"""
Model = Any  # a transformers PreTrainedModel; the library's own types are too loose to help


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What the learning arm needs of a causal language model."""

    body: nn.Module
    """token ids [B, L] -> object with last_hidden_state [B, L, d], after the final norm"""
    head: Tensor
    """[V, d]; logits = hidden @ head.T"""


def load_model(path: Path, dtype: torch.dtype = STORED) -> Model:
    """A causal language model from a directory, in eval mode, no gradients recorded by default.

    dtype: what it is multiplied in; who runs models takes it from the one decision in distill/arithmetic.py.
    """
    from transformers import AutoModelForCausalLM

    verify_checksums(path)
    check_directory(path)
    check_small_files(path)
    quiet()
    held, config = shapes(path), plain_config(path)
    check_size(path, config, held)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            path, config=config, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # transformers raises many kinds for a broken directory
        raise BadInput(f"model directory {path} cannot be loaded: {_first_line(error)}") from error
    check_loaded(path, model, info)
    return model.eval()


def load_tokenizer(path: Path) -> Any:
    """The fast tokenizer of a model directory."""
    from transformers import AutoTokenizer

    if path.is_dir():
        check_small_files(path)
        check_tokenizer(path / "tokenizer.json")
    quiet()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True, use_fast=True)
        tokenizer("a word", add_special_tokens=False)  # some settings of a wrong type show only then
    except Exception as error:
        raise BadInput(f"the tokenizer in {path} cannot be loaded: {_first_line(error)}") from error
    if not tokenizer.is_fast:
        raise BadInput(f"the tokenizer in {path} has no tokenizer.json (a fast tokenizer is needed)")
    return tokenizer


def save_model(model: Model, tokenizer: Any, path: Path) -> None:
    """Write a Hugging Face directory, whole or not at all, in bfloat16.

    The model keeps its formats; its weights are what was written, so that going on with it and reading it back agree.
    """
    formats = {name: parameter.dtype for name, parameter in model.named_parameters()}
    with replacing_directory(path) as temporary:
        cast(model, STORED).save_pretrained(temporary, safe_serialization=True)
        tokenizer.save_pretrained(temporary)
        write_checksums(temporary)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(formats[name])


def cast(model: Model, dtype: torch.dtype) -> Model:
    """The model with its parameters in another format, in place.

    Buffers stay as they are: rotary frequencies and router biases are kept in float32 on purpose.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def convert_gguf(file: Path, target: Path) -> None:
    """A GGUF file, dequantised once, as a Hugging Face directory of bfloat16 safetensors at `target`."""
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
        raise BadInput(f"{file} cannot be read as a GGUF model: {_first_line(error)}") from error
    check_loaded(file, loaded, info)
    # A dequantised model still refuses to be saved, because it remembers where it came from: build it anew.
    fields = {key: value for key, value in loaded.config.to_dict().items() if key not in _PROVENANCE}
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields))
    plain.load_state_dict(loaded.state_dict())
    save_model(plain, tokenizer, target)


_PROVENANCE = {"quantization_config", "_name_or_path", "transformers_version", "dtype"}


def parts(model: Model) -> Parts:
    """Body and head of a model whose logits are exactly hidden @ head.T; else UnsupportedArchitecture."""
    head = model.get_output_embeddings()
    body = model.get_decoder()
    if head is None or getattr(head, "bias", None) is not None:
        raise UnsupportedArchitecture(f"{type(model).__name__} has no plain linear head (get_output_embeddings)")
    for field in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(model.config, field, None) not in (None, 1, 1.0):
            raise UnsupportedArchitecture(f"{type(model).__name__} changes its logits after the head ({field})")
    return Parts(body=body, head=head.weight)


def decoder_layers(model: Model) -> nn.ModuleList:
    """The stack of transformer blocks."""
    layers = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UnsupportedArchitecture(f"{type(model).__name__} keeps its blocks elsewhere than in `layers`")
    return layers


def keep_layers(model: Model, kept: list[int]) -> Model:
    """A copy of `model` with only the blocks `kept` (ascending indices); the original is untouched."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in kept]
    original = decoder_layers(model)
    model.get_decoder().layers = nn.ModuleList()  # not copied twice
    try:
        pruned = copy.deepcopy(model)
    finally:
        model.get_decoder().layers = original
    blocks = nn.ModuleList(copy.deepcopy(original[index]) for index in kept)
    for position, block in enumerate(blocks):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", position)  # noqa: B010 - a plain number, which nn.Module's types do not foresee
    pruned.get_decoder().layers = blocks
    pruned.config = config
    pruned.get_decoder().config = config
    return pruned


def fingerprint(path: Path) -> str:
    """SHA-256 over a model directory's config and weights; what signals and records are keyed by."""
    names = ["config.json", *sorted(file.name for file in path.glob("*.safetensors"))]
    import hashlib

    total = hashlib.sha256()
    for name in names:
        total.update(f"{name}:{sha256(path / name)}\n".encode())
    return total.hexdigest()


def tokenizer_fingerprint(path: Path) -> str:
    """SHA-256 of a model directory's tokenizer.json: two models share a vocabulary where it is the same."""
    file = path / "tokenizer.json"
    if not file.is_file():
        raise BadInput(f"model directory {path} has no tokenizer.json (a fast tokenizer is needed)")
    return sha256(file)


def quiet() -> None:
    """Keep transformers from printing over our own progress."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="transformers")


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200]
