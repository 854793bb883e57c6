"""Models and tokenizers in Hugging Face directories: check, load, convert, fingerprint, prune and save them."""

from flashstill.distill.models.conversion import convert_gguf, names_no_rule
from flashstill.distill.models.fingerprints import fingerprint, tokenizer_fingerprint
from flashstill.distill.models.layers import decoder_layers
from flashstill.distill.models.loading import (
    STORED,
    Model,
    cast,
    check_tensors,
    left_out,
    load_model,
    load_tokenizer,
    quiet,
    save_model,
    write_model,
)
from flashstill.distill.models.parts import Parts, parts
from flashstill.distill.models.shallower import keep_layers

__all__ = [
    "STORED",
    "Model",
    "Parts",
    "cast",
    "check_tensors",
    "convert_gguf",
    "decoder_layers",
    "fingerprint",
    "keep_layers",
    "left_out",
    "load_model",
    "load_tokenizer",
    "names_no_rule",
    "parts",
    "quiet",
    "save_model",
    "tokenizer_fingerprint",
    "write_model",
]
