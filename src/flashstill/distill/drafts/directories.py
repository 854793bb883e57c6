"""Directories of drafting heads, as vLLM and SGLang load them.

    config.json          that of a Llama of one block with the target's width and vocabulary; `flashstill_draft` says of
                         what target (fingerprint), trained how
    model.safetensors    fc.*, layers.0.*: no embedding and no LM head, which engines share with the target

vLLM: --speculative-config '{"method": "eagle", "model": DIR, "num_speculative_tokens": 3}'; the architecture is
LlamaForCausalLM there.  SGLang: --speculative-algorithm EAGLE --speculative-draft-model-path DIR, with the architecture
LlamaForCausalLMEagle in config.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from flashstill.arch.adapter.drafting import fields_of, shape_of
from flashstill.distill.drafts.eagle import Eagle
from flashstill.distill.models import STORED, Model, parts
from flashstill.distill.models.checksums import verify_checksums, write_checksums
from flashstill.distill.models.directories import check_small_files, read_json, shapes, weight_files
from flashstill.errors import BadInput
from flashstill.files import replacing_directory

WEIGHTS = "model.safetensors"
ABOUT = "flashstill_draft"
FUSED = "fc.weight"
"""the tensor that tells a drafting head from a model"""


def is_eagle(path: Path) -> bool:
    """Whether a directory holds a drafting head, and no model of its own."""
    try:
        return FUSED in shapes(path)
    except (BadInput, OSError):
        return False


def save_eagle(eagle: Eagle, path: Path, about: Mapping[str, Any]) -> None:
    """Write the head atomically, in bfloat16; its own weights are rounded in place, so that they equal the saved ones.

    about: what is written under `flashstill_draft` in config.json.
    """
    with torch.no_grad():
        for weight in eagle.parameters():
            weight.copy_(weight.to(STORED))
    with replacing_directory(path) as temporary:
        temporary.mkdir(parents=True, exist_ok=True)
        fields = {**fields_of(eagle.shape), ABOUT: dict(about)}
        (temporary / "config.json").write_text(json.dumps(fields, indent=1), encoding="utf-8")
        weights = {name: tensor.to(STORED).contiguous() for name, tensor in eagle.state_dict().items()}
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        write_checksums(temporary)


def check_target(path: Path, fields: Mapping[str, Any], fingerprint: str) -> None:
    """BadInput if a head says that it was trained for another target. fields: of its config.json; fingerprint: of the
    target's directory, empty if unknown."""
    about = fields.get(ABOUT)
    its_target = about.get("target", "") if isinstance(about, dict) else ""
    if fingerprint and its_target and its_target != fingerprint:
        raise BadInput(f"{path} was trained on the hidden states of another model; give the target that it drafts for")


def load_eagle(path: Path, target: Model, fingerprint: str = "") -> Eagle:
    """Load a head for `target`, in its dtype.

    fingerprint: of the target's directory; a head that says it was trained for another one is refused.  Raises BadInput
    also for other widths or vocabularies, and for a directory that is unsafe or damaged.
    """
    verify_checksums(path)
    check_small_files(path)
    fields, model_parts = read_json(path / "config.json"), parts(target)
    shape = shape_of(fields, str(path))
    vocabulary, width = model_parts.head.shape
    if (shape.vocabulary, shape.width) != (vocabulary, width):
        raise BadInput(
            f"{path} drafts for a model {shape.width} wide with {shape.vocabulary:,} tokens; this one is {width}"
            f" wide with {vocabulary:,}"
        )
    check_target(path, fields, fingerprint)
    embedding = target.get_input_embeddings().weight
    eagle = Eagle(shape, embedding, model_parts.head)
    wanted = {name: tuple(tensor.shape) for name, tensor in eagle.state_dict().items()}
    stored = {name: shape for name, shape in shapes(path).items() if not name.startswith(("embed_tokens.", "lm_head."))}
    if "fc.bias" not in stored:
        wanted.pop("fc.bias")
    differs = sorted(name for name in {**wanted, **stored} if wanted.get(name) != stored.get(name))
    if differs:
        raise BadInput(f"{path} is no drafting head of this form: {differs[0]} is missing, surplus or of another shape")
    weights = {name: tensor for file in weight_files(path) for name, tensor in load_file(file).items()}
    for name in wanted:
        if not torch.isfinite(weights[name]).all():
            raise BadInput(f"{path}: {name} holds values that are not finite numbers")
    eagle.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    return eagle.to(device=model_parts.head.device, dtype=target.dtype).eval()
