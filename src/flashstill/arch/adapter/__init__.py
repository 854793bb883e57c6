"""From a Hugging Face config.json to our Architecture: the only place that knows Hugging Face field names.

Every number is read from the field that holds it (`head_dim` above all), a default is used only where transformers
itself has it, and what is not understood is refused by name.  Of a model with several modalities the text part is read.
"""

from __future__ import annotations

from dataclasses import replace

from flashstill.arch.adapter.accounting import note_of
from flashstill.arch.adapter.defaults import defaults_of
from flashstill.arch.adapter.families import FAMILIES, REFUSED
from flashstill.arch.adapter.fields import Config, Fields
from flashstill.arch.adapter.quantization import read_formats
from flashstill.arch.adapter.text import text_part
from flashstill.arch.model import Architecture
from flashstill.errors import UnsupportedArchitecture, unknown

__all__ = ["FAMILIES", "from_hf"]

_MOST_PARAMETERS = 10**15


def from_hf(config: Config, name: str, *, whole: bool = False) -> Architecture:
    """The architecture of a parsed config.json. whole: what it leaves out is not there, whatever transformers fills in.

    Raises UnsupportedArchitecture naming the field that is missing, wrong, not supported or not understood.
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
    formats = read_formats(fields, shape.depth)
    notes = [shape.note, others, note_of(fields)]
    return replace(shape, formats=formats, note="; ".join(filter(None, notes)))
