"""Validate a server's response field by field: its values are used only if they form a probability distribution."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flashstill.distill.teachers.served.questions import Api, Position
from flashstill.errors import BadInput, one_line

if TYPE_CHECKING:
    from flashstill.distill.teachers.served.client import Server
    from flashstill.progress import Progress

ROUNDING = 1e-3
"""tolerance for a log-probability above 0 or a sum of probabilities above 1, as servers round and use 16-bit formats"""
PADDED_ROWS = 1024
"""a head may have so many rows beyond the tokenizer's ids, for even sizes; servers rank them like tokens"""
IMPOSSIBLE = math.log(math.ulp(0.0))
"""about -744: below it a probability is 0 in any floating-point format; vLLM sends -9999 in the place of -infinity"""
NEVER = -60.0
"""log-probability of ids that a target which is not learned does not have"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenScores:
    """A served teacher's scores for a window of L targets.

    ids [L, k] and log_p [L, k]: top k, likeliest first.  target_log_p [L]: log-probability of each target; -infinity
    for a probability of 0.  text: the targets as decoded by the server, None if it does not say.
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


def check_possible(answer: TokenScores) -> None:
    """BadInput if the teacher gives a token of the text a probability of 0: its own loss there would be infinite."""
    impossible = torch.isinf(answer.target_log_p).nonzero()
    if len(impossible):
        raise BadInput(
            f"it gives the text's own token {int(impossible[0]) + 1} a probability of 0: it rules tokens out; start it"
            " without filters of tokens (vLLM: --logprobs-mode raw_logprobs)"
        )


def _likeliest(position: Position, k: int, vocabulary: int, place: int) -> list[tuple[int, float]]:
    """The k likeliest (id, log-probability) at a position; servers may add the actual token as entry k + 1, dropped."""
    log_p_of_id: dict[int, float] = {}
    for name, value in position.top:
        if not isinstance(name, int) or isinstance(name, bool) or not 0 <= name < vocabulary + PADDED_ROWS:
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
    """The log-probability of the text's own token; a missing one is refused, as nobody knows what it stands for."""
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
            return -math.inf
        if math.isfinite(log_p) and log_p <= ROUNDING:
            return min(0.0, log_p)
    raise BadInput(f"it gives {str(value)[:20]!r} as a log-probability at token {place}")


def no_scores(shape: tuple[int, ...], k: int) -> tuple[Tensor, Tensor]:
    """ids and log_p [*shape, k] of targets that are not learned: id 0 for sure."""
    ids, log_p = torch.arange(k).expand(*shape, k).clone(), torch.full((*shape, k), NEVER)
    log_p[..., 0] = 0.0
    return ids, log_p


class Reading:
    """Whether a server decodes token ids as our tokenizer does: checked on the first answer, or said once."""

    def __init__(self, server: Server, tokenizer: Any, progress: Progress) -> None:
        self._server, self._tokenizer, self._progress, self._is_checked = server, tokenizer, progress, False

    def check(self, text: str | None, targets: Sequence[int]) -> None:
        """BadInput if the server decodes token ids differently; said once if it does not say how it decodes them."""
        if self._is_checked:
            return
        self._is_checked = True
        if text is None:
            self._progress.say(
                f"{self._server.base} does not say how it reads token ids; see to it that it reads them alike"
            )
        elif not reads_alike(text, targets, self._tokenizer):
            raise BadInput(
                f"{self._server.name} at {self._server.base} reads the token ids of the text as {text[:40]!r}: it"
                " has another tokenizer than teachers.tokenizer"
            )


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
