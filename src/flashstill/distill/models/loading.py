"""Load and save Hugging Face directories without ever running code that comes with a model.

Only safetensors weights are read, `auto_map` (remote code) is ignored, and nothing is downloaded from a hub.
Models are built only from classes that transformers itself ships.
"""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["USE_HUB_KERNELS"] = "0"  # a model's config could otherwise make transformers download and run a hub kernel
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")  # hide transformers' progress bars; this program shows its own

import torch

from flashstill.arch.adapter.edit import UNTIED
from flashstill.arch.adapter.sizes import is_quantised, is_tied
from flashstill.distill.data.tokenizing import check_tokenizer
from flashstill.distill.models.causality import check_decoder
from flashstill.distill.models.checksums import verify_checksums, write_checksums
from flashstill.distill.models.configuration import check_size, plain_config
from flashstill.distill.models.devices import current
from flashstill.distill.models.directories import GENERATION, check_directory, check_small_files, shapes
from flashstill.distill.models.expert_products import fit_experts
from flashstill.distill.models.loaded_tensors import check_loaded, restore_padding
from flashstill.distill.models.older_readers import write_older_fields, write_older_tokenizer
from flashstill.distill.models.placement import placement
from flashstill.distill.models.predictors import forget_predictors, left_out_predictors
from flashstill.distill.models.quantised import in_dtype, read_as
from flashstill.distill.models.rebuild import Undrawn
from flashstill.distill.models.text_part import auto_class, check_text_part, is_multimodal, text_model
from flashstill.errors import BadInput, first_line
from flashstill.files import replacing_directory

STORED = torch.bfloat16
"""dtype of weights on disk, independent of the precision of matrix products (distill/models/arithmetic.py)"""
Model = Any  # a transformers PreTrainedModel; the library's own types are too loose to help


def load_model(path: Path, dtype: torch.dtype = STORED, may_spread: bool = False) -> Model:
    """Load a causal language model from a directory, in eval mode; BadInput if the directory is unsafe or broken.

    Of a vision-language model the text part; its attribute `left_out` names the other tensors, which are checked too,
    and `predictors` those of layers for multi-token prediction (`left_out` makes sentences of both).
    dtype: dtype of weights and products; callers that run the model take it from distill/models/arithmetic.py.  It lies
    on the device of this process (distill/models/devices.py); may_spread: of one that is only run, on several GPUs if
    it is larger than one (distill/models/placement.py).
    """
    verify_checksums(path)
    check_directory(path)
    check_small_files(path)
    quiet()
    stored, config = shapes(path), plain_config(path)
    check_size(path, config, stored)
    quantised, placed = read_as(path, config, stored), placement(path, dtype, may_spread)
    try:
        with Undrawn():
            model, info = auto_class(config).from_pretrained(
                path, config=config, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True,
                output_loading_info=True, ignore_mismatched_sizes=True, **placed, **quantised,
            )  # fmt: skip
    except Exception as error:  # transformers raises many kinds for a broken directory
        raise BadInput(f"model directory {path} cannot be loaded: {first_line(error)}") from error
    check_loaded(path, model, info)
    check_decoder(path, model)
    restore_padding(path, model)
    if quantised:
        in_dtype(model, dtype)
    untie(model)
    predictors = left_out_predictors(model, stored)
    if is_multimodal(config):
        model, left_out = text_model(model)
        model.left_out = tuple(left_out)
    keep_weights(model)
    model.predictors = predictors
    forget_predictors(model)
    fit_experts(model)
    return (model if placed else model.to(current())).eval()


def untie(model: Model) -> None:
    """Let a configuration say that the head is not the embedding, if the weights say so: transformers reads both."""
    head, embedding = (getattr(each, "weight", None) for each in (model.get_output_embeddings(), _embedding(model)))
    if head is None or embedding is None or head is embedding or not is_tied(model.config.get_text_config()):
        return
    if head.shape == embedding.shape and not torch.equal(head, embedding.to(head.device)):
        for configuration in (model.config, model.config.get_text_config()):
            configuration.update(UNTIED)


def _embedding(model: Model) -> Any:
    try:
        return model.get_input_embeddings()
    except NotImplementedError:  # of classes with several
        return None


def keep_weights(model: Model) -> None:
    """Stop RWKV from dividing its stored weights by powers of two when it is run in eval mode.

    That is there for float16, which is not used here, and weights read or saved after a run would be others than the
    configuration says; without it the logits are the same.
    """
    for module in model.modules():
        if hasattr(module, "layers_are_rescaled"):
            module._rescale_layers = _nothing


def _nothing() -> None:
    """What RWKV does to its weights."""


def check_tensors(path: Path, dtype: torch.dtype = STORED) -> Model | None:
    """BadInput if a directory lacks a tensor, has one too many or one of another shape; no weights are read.

    Headers alone are compared with a model without memory, which is returned, so that this can be done before hours of
    other work; its dtypes are those of `load_model(path, dtype)`.  Directories of quantised weights, and of families
    that cannot be made so, are left to `load_model`.
    """
    quiet()
    check_size(path, config := plain_config(path), stored := shapes(path))
    if is_quantised(config):
        read_as(path, config, stored)
        return None
    try:
        with Undrawn():
            model, info = auto_class(config).from_pretrained(
                path, config=config, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True,
                output_loading_info=True, ignore_mismatched_sizes=True, device_map="meta",
            )  # fmt: skip
    except Exception:  # whatever it is, `load_model` meets it too, with the weights
        return None
    check_loaded(path, model, info)
    check_decoder(path, model)
    if is_multimodal(config):
        check_text_part(model)
    return model


def left_out(model: Model, name: str) -> list[str]:
    """Sentences about what was left out of a loaded model: all but the text part, and the layers for multi-token
    prediction; none of a model that is whole."""
    sentences = []
    if names := getattr(model, "left_out", ()):
        parts = sorted({".".join(each.split(".")[:2]) for each in names})
        more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
        sentences.append(
            f"{name}: only the text part is used; {len(names)} tensors are left out ({', '.join(parts[:3])}{more})"
        )
    if predictors := getattr(model, "predictors", ()):
        sentences.append(
            f"{name}: its layers for multi-token prediction are left out ({len(predictors)} tensors); students have"
            " none, and a server cannot draft with them"
        )
    return sentences


def load_tokenizer(path: Path) -> Any:
    """Load the fast tokenizer of a model directory; BadInput if it has none or it cannot be loaded safely."""
    from transformers import AutoTokenizer

    if path.is_dir():
        check_small_files(path)
        check_tokenizer(path / "tokenizer.json")
    quiet()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True, use_fast=True)
        tokenizer("a word", add_special_tokens=False)  # some settings of a wrong type show only then
    except Exception as error:
        if path.is_dir() and not (path / "tokenizer.json").exists():
            raise BadInput(f"the tokenizer in {path} has no tokenizer.json (a fast tokenizer is needed)") from error
        raise BadInput(f"the tokenizer in {path} cannot be loaded: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise BadInput(f"the tokenizer in {path} has no tokenizer.json (a fast tokenizer is needed)")
    return tokenizer


def save_model(model: Model, tokenizer: Any, path: Path) -> None:
    """Write a Hugging Face directory atomically, in bfloat16.

    The model keeps its dtypes, but its weights are rounded to bfloat16 in place, so that they equal the saved ones.
    """
    formats = {name: parameter.dtype for name, parameter in model.named_parameters()}
    with replacing_directory(path) as temporary:
        write_model(cast(model, STORED), temporary)
        tokenizer.save_pretrained(temporary)
        write_older_tokenizer(temporary)
        write_checksums(temporary)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(formats[name])


def write_model(model: Model, directory: Path) -> None:
    """Write weights and settings, in their dtypes.

    Generation settings that transformers reads but refuses to write, as a temperature beside do_sample = false in
    several published models, are written as they are; settings of config.json also under their older names.
    """
    settings: Any = getattr(model, "generation_config", None)
    if settings is None or _is_writable(settings):
        model.save_pretrained(directory, safe_serialization=True)
    else:
        model.generation_config = type(settings)()
        try:
            model.save_pretrained(directory, safe_serialization=True)
        finally:
            model.generation_config = settings
        settings.to_json_file(directory / GENERATION)
    write_older_fields(directory)


def _is_writable(settings: Any) -> bool:
    try:
        settings.validate(strict=True)
    except ValueError:
        return False
    return True


def cast(model: Model, dtype: torch.dtype) -> Model:
    """Convert the model's parameters to `dtype` in place and return the model.

    Buffers are not converted: rotary frequencies and router biases must stay in float32.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def quiet() -> None:
    """Silence the messages and progress bars of transformers, which would overwrite this program's progress."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="transformers")
