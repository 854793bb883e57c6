"""Options of speculative decoding: the acceptance of a draft."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from flashstill.cli.options import SHARE, given_options

_F = TypeVar("_F", bound=Callable[..., Any])
ACCEPTANCE, MEASURED = "acceptance", "measured_acceptance"
ASSUMED = 0.7
"""acceptance where none is given or measured"""


class _Acceptance(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A share, rates by position with commas between, or a file of records."""

    name = "acceptance"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """A number for a share, the text itself for anything else."""
        if not isinstance(value, str):
            return float(value)
        is_file = "," in value or Path(value.rpartition("@")[0] or value).is_file()
        share: float | str = value if is_file else SHARE.convert(value, param, ctx)
        return share


def acceptance_options(command: _F) -> _F:
    """Add --acceptance and --acceptance-decay."""
    command = click.option(
        "--acceptance-decay", type=SHARE, default=1.0, show_default=True,
        help="Its factor from one position to the next.",
    )(command)  # fmt: skip
    return click.option(
        "--acceptance",
        type=_Acceptance(),
        default=ASSUMED,
        show_default=True,
        help="Rate at which a draft is accepted; rates by position as 0.7,0.6,0.5; or a file of `acceptance`.",
    )(command)


def accepted(flags: Mapping[str, Any], drafts: bool | None = None) -> dict[str, Any]:
    """The options as fields of a scenario: a rate that is given counts more than a record in the draft's directory.

    drafts: whether anything drafts, if --draft does not say it. BadInput for an option of drafts without effect.
    """
    from flashstill.plan.drafts import given_rates

    spelled = given_options()
    given = {name: flags[name] for name in spelled if name in flags}
    if isinstance(flags[ACCEPTANCE], str):
        flags = {**flags, ACCEPTANCE: ASSUMED, MEASURED: flags[ACCEPTANCE]}
        given[MEASURED] = given.pop(ACCEPTANCE)
        spelled[MEASURED] = spelled[ACCEPTANCE]
    rates = given_rates(given, flags["draft"] is not None if drafts is None else drafts, spelled, "--draft")
    return {**flags, MEASURED: rates.get(MEASURED)}


def accepted_as_given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """As `accepted`, without a rate or decay that has its default: as keywords of the Python face they would count as
    given, and no longer give way to a record in the draft's directory."""
    from flashstill.plan.drafts import RATES

    taken = accepted(flags)
    spelled = () if isinstance(flags[ACCEPTANCE], str) else given_options()  # by position, in place of a rate
    return {name: value for name, value in taken.items() if name not in RATES or name in spelled}
