"""What a law does not know itself, borrowed from another one: experts, number formats, repeated tokens.

    experts          N -> the dense model that the joint law of Ludziejewski et al. 2025 gives the same loss, at most
                     at the tokens where it rates the experts highest
    formats in bits  N -> N x share of parameters that Kumar et al. 2024 let a format keep, against 16 bits
    unique_tokens    D -> the unseen tokens that D repeated ones are worth (Muennighoff et al. 2023)

Each is an assumption (that what one corpus and tokeniser shows carries over), so `remarks` says which were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from flashstill.quality.forms import effective_experts, joint_moe
from flashstill.quality.precision import kept_share
from flashstill.quality.repetition import effective_tokens
from flashstill.quality.table import coefficients, entries
from flashstill.units import short_count

Values = npt.NDArray[np.float64]
JOINT, FORMATS, REPEATS = "ludziejewski-2025", "kumar-2024", "muennighoff-2023"
BITS = ("weight_bits", "activation_bits", "cache_bits")
BORROWED = ("experts", *BITS, "unique_tokens")
"""conditions that any law takes, if need be with the help of another"""


def dense_equivalent(parameters: Values, tokens: Values, experts: Values) -> Values:
    """Parameters of the dense model with the loss of a mixture of `experts` with N active parameters, after D tokens.

    Infinite where the joint law lets no dense model reach it.  Beyond `peak_tokens` what it is there: the law's own
    formula lets it fall again, so that under another law more tokens would make a mixture worse.
    """
    c = coefficients(JOINT)
    start = np.log(c["E_start"])
    tokens = np.minimum(tokens, peak_tokens(experts))
    mixture = joint_moe(c, parameters, tokens, experts)
    data = c["b"] * c["E_start"] ** c["omega"] * tokens ** (c["beta"] + c["zeta"] * start)
    left = mixture - c["c"] - data
    reachable = np.maximum(left, np.finfo(float).tiny) / (c["a"] * c["E_start"] ** c["delta"])
    with np.errstate(over="ignore"):  # beyond any size is infinite
        size = np.asarray(reachable ** (1 / (c["alpha"] + c["gamma"] * start)))
    return np.where(left > 0, size, np.inf)


def peak_tokens(experts: Values) -> Values:
    """Tokens at which the joint law rates experts highest against dense models; infinite for one expert.

    There the slopes over D of both data terms, b Eh^omega D^(beta + zeta ln Eh), are equal.
    """
    c = coefficients(JOINT)
    many, one = np.log(effective_experts(c, np.asarray(experts))), np.log(c["E_start"])
    of_many, of_one = (c["beta"] + c["zeta"] * log_experts for log_experts in (many, one))
    apart = of_one - of_many
    slopes = np.log(of_many / of_one) + c["omega"] * (many - one)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.where(apart > 1e-9, np.exp(slopes / apart), np.inf)


def format_share(**bits: Values) -> Values:
    """Share of its parameters that a model keeps in these formats, against 16 bits everywhere."""
    c = coefficients(FORMATS)
    return np.asarray(kept_share(c, **bits) / kept_share(c))


def adjusted(parameters: Values, tokens: Values, conditions: Mapping[str, Values]) -> tuple[Values, Values]:
    """(parameters, tokens) of the plain dense model, in 16 bits on unseen tokens, that these stand for."""
    if "unique_tokens" in conditions:
        tokens = effective_tokens(tokens, conditions["unique_tokens"], coefficients(REPEATS)["repeats"])
    if "experts" in conditions:
        parameters = dense_equivalent(parameters, tokens, conditions["experts"])
    bits = {name: conditions[name] for name in BITS if name in conditions}
    if bits:
        parameters = parameters * format_share(**bits)
    return parameters, tokens


def remarks(conditions: Mapping[str, Values]) -> Iterator[str]:
    """One sentence for each borrowed assumption."""
    if "experts" in conditions:
        peak = float(np.min(peak_tokens(conditions["experts"])))
        held = f", held beyond {short_count(peak, 2)} tokens, where its formula lets their worth fall again"
        yield (
            f"experts counted as the dense model with which {JOINT} gives them the same loss"
            f"{held if np.isfinite(peak) else ''}"
        )
        if np.max(conditions["experts"]) > entries()[JOINT]["experts"]:
            yield f"{JOINT} saw at most {entries()[JOINT]['experts']} experts"
    if any(name in conditions for name in BITS):
        yield f"formats below 16 bits counted as fewer parameters, by the shape of {FORMATS} (unverified coefficients)"
    if "unique_tokens" in conditions:
        yield f"repeated tokens counted as fewer unseen ones, as {REPEATS} fitted on C4"
