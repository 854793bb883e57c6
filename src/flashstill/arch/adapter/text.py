"""Extract the text config of a multimodal config, with the outer fields that it needs."""

from __future__ import annotations

from typing import Any

from flashstill.arch.adapter.fields import Config

HOLDERS = ("text_config", "llm_config", "language_config", "thinker_config")
_OTHERS = ("vision_config", "audio_config", "vq_config", "speech_config", "video_config", "visual", "vision_tower")
# model_type of a multimodal config -> model_type of its text model, where the nested config lacks it or differs.
_TEXT_TYPES = {
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "minimax_m3_vl": "minimax_m3_text",
    "mistral3": "mistral",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "step3_vl": "step3_text",
    "step3p7": "step3p5",
}
_TIED = "tie_word_embeddings"
_INHERITED = ("quantization_config", "compression_config", "dtype", "torch_dtype")


def text_part(config: Config) -> tuple[Config, str, bool]:
    """(config of the language model, note if other modalities are left out, whether it was nested)."""
    holder = next((name for name in HOLDERS if isinstance(config.get(name), dict)), None)
    if holder is None:
        others = [name for name in _OTHERS if config.get(name)]
        return config, _note(others), False
    inner = config[holder]
    if any(isinstance(inner.get(name), dict) for name in HOLDERS):
        return text_part(inner)
    inherited = {key: config[key] for key in _INHERITED if config.get(key) is not None}
    kind = _TEXT_TYPES.get(str(config.get("model_type")))
    named = {"model_type": kind} if kind else {}
    own = {key: value for key, value in inner.items() if value is not None or key not in (*inherited, *named)}
    text: dict[str, Any] = {**inherited, **named, **own}
    others = [name for name in config if name != holder and name.endswith("_config") and name not in _INHERITED]
    notes = [_note(others)]
    # The outer config's tie_word_embeddings overrides that of the text config.
    if config.get(_TIED) is not None:
        text[_TIED] = config[_TIED]
        if inner.get(_TIED) not in (None, config[_TIED]):
            notes.append(f"{_TIED} is that of the whole model, its text part says otherwise")
    return text, "; ".join(filter(None, notes)), True


def _note(others: list[str]) -> str:
    return f"text part only: {', '.join(others)} not counted" if others else ""
