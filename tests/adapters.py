"""Adapter directories as peft writes them, and the logits that peft has for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

peft = pytest.importorskip("peft", reason="the extra `adapters`, which `make setup` installs")

TOKENS = torch.tensor([[5, 9, 20, 3, 27, 21], [10, 2, 2, 19, 11, 23]])


def tuned(model: Any, **settings: Any) -> Any:
    """A copy with a random adapter, in eval mode."""
    import copy

    config = peft.LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **settings})
    with_adapter = peft.get_peft_model(copy.deepcopy(model), config, autocast_adapter_dtype=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in with_adapter.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return with_adapter.eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=TOKENS.to(model.device), use_cache=False).logits
    return found


def written(model: Any, path: Path, base: Path | str = "") -> Path:
    """The adapter as a directory that names its base."""
    model.save_pretrained(path)
    edited(path, base_model_name_or_path=str(base))
    return path


def edited(path: Path, **fields: Any) -> None:
    """Change keys of an adapter_config.json."""
    file = path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
