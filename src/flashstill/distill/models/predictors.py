"""Layers for multi-token prediction: published checkpoints have them, and transformers has no modules for them.

They lie behind the last block (model.layers.61 where DeepSeek-V3's blocks are 0 to 60) or under names of their own
(mtp.*).  A model is loaded without them, which is said, and its configuration then counts none, so that a student does
not promise to a server what it lacks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from flashstill.arch.adapter.sizes import predictor_layers, without_predictors
from flashstill.distill.models.rebuild import configured, on_meta
from flashstill.errors import BadInput, UnsupportedArchitecture

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_OWN_NAME = re.compile(r"(?:^|\.)mtp(_\w+)?\.")


def behind_the_blocks(config: Any, names: Iterable[str]) -> set[str]:
    """Those of the names of tensors that are of layers for multi-token prediction behind the last block of a
    transformers configuration."""
    beyond = predictor_layers(config.get_text_config())
    numbers = {name: _LAYER.search(name) for name in names}
    return {name for name, found in numbers.items() if found is not None and int(found[1]) in beyond}


def left_out_predictors(model: Any, stored: Iterable[str]) -> tuple[str, ...]:
    """Names of the stored tensors of layers for multi-token prediction that a loaded model has no parameters for."""
    others = set(stored) - set(model.state_dict())
    return tuple(sorted(behind_the_blocks(model.config, others) | {each for each in others if _OWN_NAME.search(each)}))


def forget_predictors(model: Any) -> None:
    """Let a model's configuration count no layers for multi-token prediction, as what is saved is without them.

    Nothing changes where the configuration with none makes another model, or none.
    """
    changes = without_predictors(model.config)
    if not changes:
        return
    try:
        bare = on_meta(type(model), configured(model.config, changes))
    except (BadInput, UnsupportedArchitecture):
        return
    if bare.state_dict().keys() == model.state_dict().keys():
        model.config.update(changes)
