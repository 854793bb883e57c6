"""Every causal family that transformers ships is in the zoo, or it is said why it is not."""

from __future__ import annotations

from tests import zoo

OUTSIDE = {
    "reads in both directions unless its configuration says is_decoder": (
        "big_bird", "electra", "reformer", "rembert", "roc_bert", "roformer", "xlm", "xlnet", "xmod",
    ),
    "the decoder of an encoder-decoder": (
        "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus", "plbart",
        "prophetnet", "trocr", "whisper",
    ),
    "sees or hears; of its text part, if that is a causal model, another name is in the zoo, or it is refused": (
        "dots3_note", "emu3", "fuyu", "gemma3n", "gemma4", "gemma4_unified", "git", "got_ocr2", "mllama", "moshi",
        "moss_transcribe_diarize", "musicgen", "musicgen_melody", "phi4_multimodal", "qwen3_5_moe", "qwen4_exp",
    ),
    "drafts for another model, and reads its states": ("gemma4_assistant", "gemma4_unified_assistant"),
    "reads bytes in patches, without a vocabulary of its own": ("blt",),
}  # fmt: skip
"""causal classes of transformers that the zoo lacks, with the reason"""


def strangers(names: set[str]) -> set[str]:
    """Causal families that neither the zoo nor OUTSIDE knows."""
    in_zoo = {name.split(":")[0] for name in (*zoo.NAMES, *zoo.VISION_NAMES)} | zoo.ENCODERS
    return names - in_zoo - {name for names in OUTSIDE.values() for name in names}


def test_every_causal_family_of_transformers_is_known() -> None:
    """A newer transformers brings families: each is tried in the zoo, or it is said why it is not."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert strangers({*names, "llama9"}) == {"llama9"}, "add them to tests/zoo.py, or to OUTSIDE with the reason"
    gone = [name for listed in OUTSIDE.values() for name in listed if name not in names]
    assert not gone, "transformers has them no more"
