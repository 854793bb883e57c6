"""The teacher's outputs on disk: exact, as final hidden states.

With the teacher's LM head at hand, the hidden state after the final norm gives every logit: d_model bf16 values a
token instead of V.  (A 135M model: 1,152 bytes a token instead of 98,304.)

A directory holds shards of windows and a manifest that names the teacher, the packing, and each shard's checksum.
A shard is whole or absent; building again continues where it stopped; another teacher or packing is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from flashstill.distill.models import Model, parts
from flashstill.distill.packing import Packed
from flashstill.errors import BadInput, UnsupportedArchitecture
from flashstill.files import make_directory, replacing, sha256, write_text
from flashstill.progress import Progress

WINDOWS_PER_SHARD = 64
WINDOWS_PER_PASS = 4
_MANIFEST = "signals.json"
_LOGIT_TOLERANCE = 0.05  # bf16 rounding of a logit; a softcap or a bias shows as far more


@dataclass(frozen=True, kw_only=True, slots=True)
class HiddenSignals:
    """Final hidden states [W, L, d] of the teacher on a packing, in bfloat16."""

    hidden: Tensor

    def rows(self, windows: np.ndarray) -> Tensor:
        """[len(windows), L, d]"""
        return self.hidden[torch.from_numpy(np.asarray(windows, dtype=np.int64))]


def hidden_states(model: Model, tokens: Tensor) -> Tensor:
    """Final hidden states [B, L, d] of token ids [B, L]."""
    states: Tensor = parts(model).body(input_ids=tokens, use_cache=False).last_hidden_state
    return states


def check_head(model: Model, packed: Packed) -> None:
    """Refuse a model whose logits are not hidden @ head.T, by looking at one window."""
    tokens = torch.from_numpy(packed.tokens[:1, : min(16, packed.length)].astype(np.int64))
    with torch.inference_mode():
        ours = hidden_states(model, tokens).float() @ parts(model).head.float().T
        theirs = model(input_ids=tokens, use_cache=False).logits.float()
    scale = float(theirs.abs().max()) or 1.0
    if float((ours - theirs).abs().max()) > _LOGIT_TOLERANCE * scale:
        raise UnsupportedArchitecture(f"{type(model).__name__} changes its logits after the head")


def build_hidden(model: Model, teacher: str, packed: Packed, directory: Path, progress: Progress, name: str) -> None:
    """Run the teacher over `packed` and leave its hidden states in `directory`; resumable by shard.

    teacher: the model's fingerprint.
    """
    make_directory(directory)
    key = {"kind": "hidden", "teacher": teacher, "packing": packed.hash, "windows": packed.windows}
    done = _verified_shards(directory, key)
    starts = range(0, packed.windows, WINDOWS_PER_SHARD)
    finished = sum(min(WINDOWS_PER_SHARD, packed.windows - start) for start in starts if _shard(start) in done)
    if finished == packed.windows:
        return
    check_head(model, packed)
    with progress.task(name, packed.token_count, "tokens", finished * packed.length) as advance:
        for start in starts:
            if _shard(start) in done:
                continue
            pieces = []
            stop = min(start + WINDOWS_PER_SHARD, packed.windows)
            for first in range(start, stop, WINDOWS_PER_PASS):
                rows = packed.tokens[first : min(first + WINDOWS_PER_PASS, stop), :-1].astype(np.int64)
                with torch.inference_mode():
                    pieces.append(hidden_states(model, torch.from_numpy(rows)).to(torch.bfloat16))
                advance(rows.size)
            with replacing(directory / _shard(start)) as temporary:
                save_file({"hidden": torch.cat(pieces)}, temporary)
            done[_shard(start)] = sha256(directory / _shard(start))
            write_text(directory / _MANIFEST, json.dumps({**key, "shards": done}, indent=1))


def load_hidden(directory: Path, teacher: str, packed: Packed) -> HiddenSignals:
    """Read what `build_hidden` wrote; raises BadInput where it belongs to another teacher or packing, or is damaged."""
    key = {"kind": "hidden", "teacher": teacher, "packing": packed.hash, "windows": packed.windows}
    shards = _verified_shards(directory, key)
    wanted = [_shard(start) for start in range(0, packed.windows, WINDOWS_PER_SHARD)]
    missing = [name for name in wanted if name not in shards]
    if missing:
        raise BadInput(f"signals in {directory} lack {missing[0]}; build them first")
    return HiddenSignals(hidden=torch.cat([load_file(directory / name)["hidden"] for name in wanted]))


def _shard(start: int) -> str:
    return f"hidden-{start:08d}.safetensors"


def _verified_shards(directory: Path, key: dict[str, object]) -> dict[str, str]:
    path = directory / _MANIFEST
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        shards: dict[str, str] = manifest.pop("shards")
    except (ValueError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} is not a signal manifest; delete {directory} and build again") from error
    if manifest != key:
        differs = sorted(field for field in key if manifest.get(field) != key[field])
        raise BadInput(
            f"signals in {directory} were made with another {' and '.join(differs)}; delete them or use a new place"
        )
    return {name: digest for name, digest in shards.items() if _intact(directory / name, digest)}


def _intact(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest
