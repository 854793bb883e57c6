"""Tensors of a model under the names, and in the shapes, in which transformers saves them.

Of some families transformers renames, splits or stacks the tensors of a checkpoint as it loads them (an expert's own
matrices become one tensor of all experts), and does the reverse as it saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def as_saved(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Some tensors of a model by the names of their checkpoint. tensors: by the names of `model.state_dict()`, of the
    same leading dimensions; they may be on the meta device."""
    from transformers.core_model_loading import revert_weight_conversion

    return dict(revert_weight_conversion(model, dict(tensors)))
