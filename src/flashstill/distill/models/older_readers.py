"""Write settings of models and tokenizers so that engines on transformers 4 and on transformers 5 read the same.

Release 5 has other names for settings than release 4 (arch/adapter/releases.py), and one for a class of tokenizers at
which release 4 stops (unslothai/unsloth#8444).  Both names of settings are written where release 5 is seen to read from
both what it read before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashstill.arch.adapter.releases import NEWER, older_fields
from flashstill.arch.adapter.sizes import kind
from flashstill.distill.models.configuration import without_switches

BACKEND, GENERIC = "TokenizersBackend", "PreTrainedTokenizerFast"
"""names of one class in releases 5 and 4; 5 reads both"""
OF_LOADING = ("is_local", "local_files_only")
"""arguments of loading that release 5 writes down as settings of the tokenizer"""


def write_older_fields(directory: Path) -> None:
    """Add to config.json what release 4 reads under other names, where release 5 then reads what it read before."""
    path = directory / "config.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    for older in older_fields(fields):
        added = {key: each for key, each in older.items() if key not in fields}
        if added and _reads_alike(fields, added):
            fields |= added
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_older_tokenizer(directory: Path) -> None:
    """Name the class and the special tokens of a written tokenizer as both releases do."""
    path = directory / "tokenizer_config.json"
    if not path.is_file():
        return
    fields = json.loads(path.read_text(encoding="utf-8"))
    for key in OF_LOADING:
        fields.pop(key, None)
    if fields.get("tokenizer_class") == BACKEND:
        fields["tokenizer_class"] = GENERIC
    if isinstance(fields.get("extra_special_tokens"), list):  # a dictionary in release 4, which had this name for lists
        fields["additional_special_tokens"] = fields.pop("extra_special_tokens")
    path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _reads_alike(fields: Mapping[str, Any], added: Mapping[str, Any]) -> bool:
    """Whether release 5 reads from the fields with those of release 4 beside them what it reads from them alone."""
    try:
        alone, together = _read(fields), _read({**fields, **added})
    except Exception:  # transformers raises many kinds for fields that do not go together
        return False
    names = {*alone, *together} - (added.keys() - set(NEWER))  # it keeps names that it does not know
    return all(_without_alias(alone.get(name)) == _without_alias(together.get(name)) for name in names)


def _read(fields: Mapping[str, Any]) -> dict[str, Any]:
    from transformers import CONFIG_MAPPING

    read: dict[str, Any] = CONFIG_MAPPING[kind(fields)].from_dict(without_switches(dict(fields))).to_dict()
    return read


def _without_alias(value: Any) -> Any:
    """Rotary positions without `type`, the older name of rope_type, which release 5 keeps beside its own (Phi-3)."""
    if not isinstance(value, dict):
        return value
    kept = {key: _without_alias(each) for key, each in value.items()}
    return {key: each for key, each in kept.items() if key != "type" or each != kept.get("rope_type")}
