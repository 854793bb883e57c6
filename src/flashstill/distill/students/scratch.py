"""Students with random weights, from a config.json and the teacher's vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flashstill.arch.adapter.edit import with_vocabulary, without_weights
from flashstill.arch.adapter.sizes import kind
from flashstill.distill.models import Model, cast, quiet
from flashstill.distill.models.configuration import without_switches
from flashstill.distill.models.directories import read_json
from flashstill.distill.models.host_memory import check_memory
from flashstill.distill.models.rebuild import without_memory
from flashstill.errors import BadInput, one_line


def from_config(fields: Mapping[str, Any], vocabulary: int, seed: int, dtype: torch.dtype = torch.bfloat16) -> Model:
    """A model with random weights. fields: of a config.json, with model_type; vocabulary: size of the teacher's.

    Raises BadInput if transformers does not know the architecture, if the configuration has a different vocabulary
    size, or if the model exceeds this machine's memory.
    """
    quiet()
    wanted = with_vocabulary(_plain(fields), vocabulary)
    torch.manual_seed(seed)
    return cast(_made(wanted), dtype).eval()


def empty_from_config(fields: Mapping[str, Any]) -> Model:
    """As `from_config`, without weights and with its own vocabulary."""
    with without_memory():
        return _made(_plain(fields))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = without_switches(dict(fields))
    if kind(plain) is None:
        raise BadInput('the student\'s configuration names no model_type, for example "llama"')
    return plain


def _made(fields: Mapping[str, Any]) -> Model:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        check_memory(fields, "the student")
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    except BadInput:
        raise
    except Exception as error:  # transformers raises many kinds for fields that do not fit together
        reason = one_line((str(error).strip().splitlines() or [type(error).__name__])[-1])
        raise BadInput(f"no student can be made from this configuration: {reason}") from error


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of a config.json, without those that describe where its weights came from."""
    return without_weights(read_json(path))
