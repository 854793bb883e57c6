"""Validate a server's response field by field: its values are used only if they form a probability distribution."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flashstill.distill.teachers.served.questions import Api, Position
from flashstill.errors import BadInput, one_line

ROUNDING = 1e-3
"""tolerance for a log-probability above 0 or a sum of probabilities above 1, as servers round and use 16-bit formats"""


IMPOSSIBLE = math.log(math.ulp(0.0))
"""about -744: below it a probability is 0 in any floating-point format; vLLM sends -9999 in the place of -infinity"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenScores:
    """A served teacher's scores for a window of L targets.

    ids [L, k] and log_p [L, k]: top k, likeliest first.  target_log_p [L]: log-probability of each target.  text: the
    targets as decoded by the server, None if it does not say.
    """

    ids: Tensor
    log_p: Tensor
    target_log_p: Tensor
    text: str | None


def checked(answer: Any, api: Api, tokens: Sequence[int], k: int, vocabulary: int) -> TokenScores:
    """Parse and validate the response to a window of L + 1 `tokens`; BadInput says what is wrong with it."""
    try:
        positions = api.positions(answer, tokens)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadInput(f"its answer has no log-probabilities where they should be ({_what(error)})") from error
    except ValueError as error:
        raise BadInput(f"its answer cannot be read: {_what(error)}") from error
    rows, targets = [], []
    for place, position in enumerate(positions[1:], 1):
        if position is None:
            raise BadInput(f"it says nothing of token {place}; start vLLM with --no-enable-prefix-caching")
        rows.append(_likeliest(position, k, vocabulary, place))
        targets.append(_of_target(position.target, place))
    pairs = torch.tensor(rows, dtype=torch.float64)  # [L, k, 2]; ids are far below 2^53
    texts = [position.text for position in positions[1:] if position is not None]
    return TokenScores(
        ids=pairs[..., 0].long(),
        log_p=pairs[..., 1].float(),
        target_log_p=torch.tensor(targets, dtype=torch.float32),
        text="".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else None,
    )


def _likeliest(position: Position, k: int, vocabulary: int, place: int) -> list[tuple[int, float]]:
    """The k likeliest (id, log-probability) at a position; servers may add the actual token as entry k + 1, dropped."""
    log_p_of_id: dict[int, float] = {}
    for name, value in position.top:
        if not isinstance(name, int) or isinstance(name, bool) or not 0 <= name < vocabulary:
            raise BadInput(
                f"it names token {str(name)[:20]}, but the tokenizer knows {vocabulary}: another tokenizer's"
            )
        if name in log_p_of_id:
            raise BadInput(f"it names token {name} twice at token {place}")
        log_p_of_id[name] = _log_probability(value, place)
    if len(log_p_of_id) < k:
        raise BadInput(
            f"it gives {len(log_p_of_id)} log-probabilities where {k} were asked for; lower signals.k, or start it with"
            f" room for more (vllm serve ... --max-logprobs {k})"
        )
    best = sorted(log_p_of_id.items(), key=lambda pair: -pair[1])[:k]
    mass = math.fsum(math.exp(value) for _, value in best)
    if mass > 1.0 + ROUNDING:
        raise BadInput(f"its probabilities at token {place} sum to {mass:.4g}: it gives no log-probabilities")
    return best


def _of_target(value: object, place: int) -> float:
    """The log-probability of the text's own token; a missing one is named, as it may stand for minus infinity."""
    if value is None:
        raise BadInput(
            f"it gives no log-probability (null or missing) of the text's own token at token {place}: it may rule that"
            " token out, or not have scored it; start it without filters of tokens, so that it scores every token"
        )
    return _log_probability(value, place)


def _log_probability(value: object, place: int) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            log_p = float(value)
        except OverflowError:  # JSON integers can be larger than a float holds
            log_p = math.inf
        if log_p < IMPOSSIBLE:
            raise BadInput(
                f"it gives {str(value)[:20]!r} as a log-probability at token {place}, which is a probability of 0: it"
                " rules tokens out; start it without filters of tokens (vLLM: --logprobs-mode raw_logprobs)"
            )
        if math.isfinite(log_p) and log_p <= ROUNDING:
            return min(0.0, log_p)
    raise BadInput(f"it gives {str(value)[:20]!r} as a log-probability at token {place}")


def reads_alike(text: str, tokens: Sequence[int], tokenizer: Any) -> bool:
    """Whether `text`, as a server decoded `tokens`, matches this tokenizer's decoding; only a-z, A-Z and 0-9 count."""
    return _letters(text, tokenizer) == _letters("".join(tokenizer.decode([token]) for token in tokens), tokenizer)


def _letters(text: str, tokenizer: Any) -> str:
    for special in tokenizer.all_special_tokens:
        text = text.replace(special, "")
    return re.sub(r"[^A-Za-z0-9]", "", text)


def _what(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    return one_line(text, 160)
