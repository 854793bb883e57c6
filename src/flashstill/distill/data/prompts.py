"""Prompts to continue: of a conversation all before its last answer, of text the beginning of a window.

Both are read off the packed text: where learned targets begin inside a document, the tokens before them are a prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flashstill.distill.data.packing import Packed
from flashstill.distill.data.pieces import Ints

FEW = 4
"""tokens at the end of an answer among which its special token is looked for"""


def chat_prompts_in(packed: Packed, window: int, most: int) -> list[Ints]:
    """The prompts of the conversations in a window that have at most `most` tokens, in their order."""
    tokens = packed.tokens[window]
    mask = np.ones(packed.length, dtype=np.bool_) if packed.target_mask is None else packed.target_mask[window] != 0
    found = []
    for document in packed.documents_in(window):
        begin = _last_answer(mask[document])
        if begin and begin + 1 <= most:  # the input before the first learned target ends the prompt
            found.append(tokens[document.start : document.start + begin + 1])
    return found


def _last_answer(learned: npt.NDArray[np.bool_]) -> int:
    """Place of the first target of the last run of learned ones; 0 if there is none, or if it begins at once."""
    edges = np.flatnonzero(learned & ~np.concatenate([[False], learned[:-1]]))
    return int(edges[-1]) if len(edges) else 0


def prompts_of(packed: Packed, prompt_tokens: int, most: int) -> list[Ints]:
    """All prompts of a packed text: those of its conversations of at most `most` tokens; of text without conversations
    the first `prompt_tokens` of every window."""
    chats = [prompt for window in range(packed.windows) for prompt in chat_prompts_in(packed, window, most)]
    return chats if chats else list(packed.tokens[:, :prompt_tokens])


def prompt_for(packed: Packed, window: int, turn: int, prompt_tokens: int, most: int) -> Ints:
    """One prompt of a window: turn by turn that of another conversation in it, or its beginning if it has none."""
    chats = chat_prompts_in(packed, window, most)
    return chats[turn % len(chats)] if chats else packed.tokens[window, :prompt_tokens]


def digest_of(prompts: Sequence[Ints]) -> str:
    """SHA-256 of prompts."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(len(prompt).to_bytes(8, "little") + np.ascontiguousarray(prompt, dtype=np.int32).tobytes())
    return digest.hexdigest()


def ends_of_turns(packed: Packed, special: Sequence[int]) -> tuple[int, ...]:
    """The special tokens that end answers in a packed text, in ascending order: continuations stop at them.

    Answers at the end of a window may have been cut, and count only if there are no others.
    """
    learned = packed.mask
    ends = learned & ~np.pad(learned[:, 1:], ((0, 0), (0, 1)))
    for places in (np.argwhere(ends[:, :-1]), np.argwhere(ends)):
        found = {
            _end_of(learned[window], packed.tokens[window, 1:], place, special) for window, place in places.tolist()
        }
        known = sorted(each for each in found if each is not None)
        if known:
            return tuple(known)
    return ()


def _end_of(learned: npt.NDArray[np.bool_], targets: Ints, place: int, special: Sequence[int]) -> int | None:
    """The last special token of the learned run that ends at a target, if it is among the last few."""
    for each in range(place, max(-1, place - FEW), -1):  # white space may follow the special token
        if not learned[each]:
            return None
        if int(targets[each]) in special:
            return int(targets[each])
    return None
