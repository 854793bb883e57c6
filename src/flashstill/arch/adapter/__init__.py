"""From a Hugging Face config.json to our Architecture: the only place that knows Hugging Face field names.

Every number is read from the field that holds it (`head_dim` above all), a default is used only where transformers
itself has it, and what is not understood is refused by name.  Of a model with several modalities the text part is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flashstill.arch.adapter import classic, dense, experts, gemma, hybrid, latent
from flashstill.arch.adapter.accounting import note_of
from flashstill.arch.adapter.defaults import DEFAULTS
from flashstill.arch.adapter.fields import Config, Fields
from flashstill.arch.adapter.nemotron_h import nemotron_h
from flashstill.arch.adapter.quantization import read_formats
from flashstill.arch.adapter.text import text_part
from flashstill.arch.model import Architecture
from flashstill.errors import UnsupportedArchitecture, unknown

__all__ = ["FAMILIES", "from_hf"]

FAMILIES: dict[str, Callable[[Fields], Architecture]] = {
    "bamba": hybrid.bamba,
    "bloom": classic.bloom,
    "code_llama": dense.llama,
    "cohere": classic.cohere,
    "cohere2": classic.cohere2,
    "deepseek_v2": latent.deepseek_v2,
    "deepseek_v3": latent.deepseek_v3,
    "deepseek_v32": latent.deepseek_v32,
    "dots1": experts.dots1,
    "ernie4_5": dense.ernie,
    "ernie4_5_moe": experts.ernie_moe,
    "exaone4": dense.exaone4,
    "falcon": classic.falcon,
    "gemma": gemma.gemma,
    "gemma2": gemma.gemma2,
    "gemma3_text": gemma.gemma3,
    "gemma4_text": gemma.gemma4,
    "glm": dense.glm,
    "glm4": dense.glm4,
    "glm4_moe": experts.glm4_moe,
    "glm4_moe_lite": latent.glm4_moe_lite,
    "glm_moe_dsa": latent.deepseek_v32,
    "gpt2": classic.gpt2,
    "gpt_bigcode": classic.gpt_bigcode,
    "gpt_neox": classic.gpt_neox,
    "gpt_oss": experts.gpt_oss,
    "gptj": classic.gptj,
    "granite": dense.llama,
    "granitemoe": experts.granitemoe,
    "granitemoehybrid": hybrid.granite_hybrid,
    "granitemoeshared": experts.granitemoe,
    "hunyuan_v1_dense": dense.hunyuan,
    "hunyuan_v1_moe": experts.hunyuan_moe,
    "jamba": hybrid.jamba,
    "kimi_k2": latent.deepseek_v3,
    "kimi_linear": hybrid.kimi_linear,
    "llama": dense.llama,
    "llama4_text": experts.llama4,
    "minimax": hybrid.minimax,
    "minimax_m1": hybrid.minimax,
    "minimax_m2": experts.minimax_m2,
    "minimax_text_01": hybrid.minimax,
    "ministral": dense.mistral,
    "ministral3": dense.mistral,
    "mistral": dense.mistral,
    "mixtral": experts.mixtral,
    "nemotron": classic.nemotron,
    "nemotron_h": nemotron_h,
    "olmo": dense.olmo,
    "olmo2": dense.olmo2,
    "olmo3": dense.olmo3,
    "olmoe": experts.olmoe,
    "opt": classic.opt,
    "palm": classic.palm,
    "phi": classic.phi,
    "phi3": dense.mistral,
    "phimoe": experts.phimoe,
    "qwen2": dense.qwen2,
    "qwen2_moe": experts.qwen2_moe,
    "qwen3": dense.qwen3,
    "qwen3_5_moe_text": hybrid.qwen3_next,
    "qwen3_5_text": hybrid.qwen3_next,
    "qwen3_moe": experts.qwen3_moe,
    "qwen3_next": hybrid.qwen3_next,
    "seed_oss": dense.seed_oss,
    "smollm3": dense.smollm3,
    "stablelm": classic.stablelm,
    "starcoder2": classic.starcoder2,
}

# Families that are known and that our blocks cannot describe.
_REFUSED = {
    "falcon_h1": "each of its blocks runs attention and Mamba side by side",
    "gemma3n": "its blocks share caches and have an embedding each",
    "longcat_flash": "its blocks hold two attentions and experts that do nothing",
    "deepseek_v4": "its residual streams and its compressed attention are of a kind of their own",
    "zamba2": "its blocks share weights",
}

_MOST_PARAMETERS = 10**15


def from_hf(config: Config, name: str) -> Architecture:
    """The architecture of a parsed config.json.

    Raises UnsupportedArchitecture naming the field that is missing, wrong, not supported or not understood.
    """
    text, others = text_part(config)
    kind = text.get("model_type")
    if not isinstance(kind, str):
        raise UnsupportedArchitecture(f"the config of {name} has no model_type")
    if kind in _REFUSED:
        raise UnsupportedArchitecture(f"the config of {name} has model_type {kind}, not supported: {_REFUSED[kind]}")
    reader = FAMILIES.get(kind)
    if reader is None:
        raise UnsupportedArchitecture(f"the config of {name} names an {unknown('model_type', kind, FAMILIES)}")
    fields = Fields(text, name)
    fields.ignore("model_type")
    shape = reader(fields.with_defaults(DEFAULTS.get(kind, {})))
    if shape.parameters > _MOST_PARAMETERS:
        raise fields.fail(f" describes {shape.parameters:.1e} parameters, more than any model has")
    formats = read_formats(fields, shape.depth)
    notes = [shape.note, others, note_of(fields)]
    return replace(shape, formats=formats, note="; ".join(filter(None, notes)))
