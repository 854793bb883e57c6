"""The tokens at which a finished student stops, as inference engines read them from generation_config.json.

A student that was made from a base model and has learned conversations ends its answers with a token, such as
<|im_end|>, that its base model does not stop at; and one that begins with random weights has the numbers of its class,
which belong to another tokenizer: either would never come to an end.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.recipes.distillation import ShapeRecipe

MOST_WINDOWS = 512
"""evenly spaced over the text, in which the ends of answers are looked for"""


def inherit_settings(student: Any, origin: Any) -> None:
    """Let a student generate as the model that it is made from does, None if there is none."""
    settings = getattr(origin, "generation_config", None)
    if settings is not None:
        student.generation_config = copy.deepcopy(settings)


def add_ends(student: Any, tokenizer: Any, packed: Packed, shape: ShapeRecipe) -> None:
    """Let a student stop also at the tokenizer's end of text and where the answers of its training text end."""
    from flashstill.distill.data.prompts import ends_of_turns
    from flashstill.distill.data.templates import special_ids
    from flashstill.distill.students import read_fields

    settings = getattr(student, "generation_config", None)
    if settings is None:
        return
    known = settings.eos_token_id
    if shape.kind == "scratch" and "eos_token_id" not in read_fields(Path(shape.config)):
        known = None
    before = [] if known is None else list(known) if isinstance(known, list | tuple) else [known]
    learned: list[int] = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    if packed.target_mask is not None:
        spread = np.linspace(0, packed.windows - 1, min(packed.windows, MOST_WINDOWS)).round().astype(np.int64)
        learned += ends_of_turns(packed.taken(spread), list(special_ids(tokenizer)))
    rows = student.get_input_embeddings().weight.shape[0]
    wanted = [each for each in dict.fromkeys([*before, *learned]) if 0 <= each < rows]  # others are never written
    settings.eos_token_id = wanted[0] if len(wanted) == 1 else wanted or None
