"""Convert a Hugging Face config.json to an Architecture; only this package uses Hugging Face field names.

Numbers are read from their own fields (such as `head_dim`) rather than derived, defaults are those of transformers,
and fields that are not understood are rejected by name.  Of a multimodal model only the text part is read.
"""

from __future__ import annotations

from dataclasses import replace

from flashstill.arch.adapter.accounting import note_of
from flashstill.arch.adapter.defaults import defaults_of
from flashstill.arch.adapter.families import FAMILIES
from flashstill.arch.adapter.fields import Config, Fields
from flashstill.arch.adapter.quantization import cache_note, read_formats
from flashstill.arch.adapter.refused import REFUSED
from flashstill.arch.adapter.text import text_part
from flashstill.arch.model import Architecture
from flashstill.errors import UnsupportedArchitecture, unknown

__all__ = ["FAMILIES", "from_hf"]

_MOST_PARAMETERS = 10**15


def from_hf(config: Config, name: str, *, whole: bool = False) -> Architecture:
    """The architecture of a parsed config.json. whole: do not fill absent fields with the defaults of transformers.

    Raises UnsupportedArchitecture naming a field that is missing, invalid, unsupported or unknown.
    """
    text, others, nested = text_part(config)
    kind = text.get("model_type")
    if not isinstance(kind, str):
        raise UnsupportedArchitecture(f"the config of {name} has no model_type")
    if kind in REFUSED:
        raise UnsupportedArchitecture(f"the config of {name} has model_type {kind}, not supported: {REFUSED[kind]}")
    reader = FAMILIES.get(kind)
    if reader is None:
        raise UnsupportedArchitecture(f"the config of {name} names an {unknown('model_type', kind, FAMILIES)}")
    fields = Fields(text, name, {} if whole else defaults_of(kind, nested=nested))
    fields.ignore("model_type")
    shape = reader(fields)
    if shape.parameters > _MOST_PARAMETERS:
        raise fields.fail(f" describes {shape.parameters:.1e} parameters, more than any model has")
    formats = read_formats(fields, shape)
    notes = [shape.note, others, cache_note(fields), note_of(fields, shape)]
    return replace(shape, formats=formats, note="; ".join(filter(None, notes)))


def name_of(config: Config) -> str:
    """What a configuration calls its model: the last part of its path or id, else its family."""
    called = config.get("_name_or_path") or config.get("model_type")
    return called.rstrip("/").rpartition("/")[2] if isinstance(called, str) else "configuration"
