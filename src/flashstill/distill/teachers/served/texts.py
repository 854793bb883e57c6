"""Texts that a server wrote: their token ids, with the end that came, and their log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

from flashstill.distill.generate import Sampling
from flashstill.errors import BadInput

BYTES_PER_TOKEN = 512  # upper limit of the response size, for a token, its name and its log-probability
TOKEN = "token_id:"
Attempt = tuple[list[int], float]
"""token ids, with the stop id unless cut off; the sum of their log-probabilities, NaN if the server gives none"""


def most_bytes(attempts: int, how: Sampling) -> int:
    """The largest answer to a request for so many attempts."""
    return attempts * (how.new_tokens + 16) * BYTES_PER_TOKEN


def attempt_of(choice: Mapping[str, Any], how: Sampling, tokenizer: Any, special: Container[int]) -> Attempt:
    """The attempt in one of an answer's choices. special: ids of special tokens.

    Raises BadInput if it is outside the vocabulary or its log-probability is none; KeyError, TypeError, AttributeError
    or ValueError if it is malformed.
    """
    log_probabilities = choice.get("logprobs") or {}
    names, values = log_probabilities.get("tokens") or [], log_probabilities.get("token_logprobs") or []
    stop, ended = how.stop[0], choice.get("finish_reason") == "stop"
    if names and all(str(name).startswith(TOKEN) for name in names):
        ids = [int(str(name).removeprefix(TOKEN)) for name in names]
        if ended and ids[-1] in how.stop:
            stop = ids[-1]
        elif ended and ids[-1] in special:
            ids = ids[:-1]  # another end of the model's generation_config.json than ours; vLLM keeps it among the ids
    else:
        ids = tokenizer(str(choice["text"]), add_special_tokens=False)["input_ids"]
    if any(not 0 <= each < len(tokenizer) for each in ids):
        raise BadInput(f"it writes token {max(ids)}, but the tokenizer has {len(tokenizer)}: they do not match")
    kept_ids = next((ids[:place] for place, each in enumerate(ids) if each in how.stop), ids)
    kept_ids = [*kept_ids[: how.new_tokens - ended], *[stop] * ended]
    log_p = math.fsum(map(float, values)) if values else math.nan
    if log_p > 0 or math.isinf(log_p):
        raise BadInput(f"it gives {log_p} as the log-probability of a text")
    return kept_ids or [stop], log_p
