"""Allowed ranges of the values of recipes, checked before any work.

Upper limits are beyond any model, text or machine of today; they catch typing errors and wrong units.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from flashstill.checked import between, shaped, sized

LONGEST_CONTEXT = 2**24
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _unlike_a_name(text: str) -> str:
    return "" if _NAME.fullmatch(text) else "be a name of up to 64 letters, digits, '.', '_' or '-', and no path"


def _unprintable(text: str) -> str:
    if len(text) > 4096:
        return "have at most 4,096 characters"
    return "" if text.isprintable() else "be one line of text that can be printed"


Name: TypeAlias = Annotated[str, shaped(_unlike_a_name)]
"""name of a family, study or student, also used as a directory name"""
Source: TypeAlias = Annotated[str, shaped(_unprintable)]
"""a path, a URL or a known name; may be empty if optional"""
Given: TypeAlias = Annotated[str, sized(1, 4096), shaped(_unprintable)]
"""a required path, URL or name"""
Prose: TypeAlias = Annotated[str, sized(0, 65_536)]
"""text for a model"""

Seed: TypeAlias = Annotated[int, between(0, 2**31 - 1)]
Count: TypeAlias = Annotated[int, between(1, 10**9)]
Whole: TypeAlias = Annotated[int, between(0, 10**9)]
Tokens: TypeAlias = Annotated[int, between(1, 10**14)]
"""number of tokens of a text or of training"""
TokensOrNone: TypeAlias = Annotated[int, between(0, 10**14)]
Window: TypeAlias = Annotated[int, between(2, LONGEST_CONTEXT)]
Context: TypeAlias = Annotated[int, between(1, LONGEST_CONTEXT)]
ContextOrNone: TypeAlias = Annotated[int, between(0, LONGEST_CONTEXT)]
Layers: TypeAlias = Annotated[int, between(1, 10_000)]
LayersOrNone: TypeAlias = Annotated[int, between(0, 10_000)]
Width: TypeAlias = Annotated[int, between(1, 2**20)]
"""widths of a model: dimensions, heads, neurons, experts"""
WidthOrNone: TypeAlias = Annotated[int, between(0, 2**20)]
Rows: TypeAlias = Annotated[int, between(1, 2**20)]
"""batch size: windows, rows or sequences"""
RowsOrNone: TypeAlias = Annotated[int, between(0, 2**20)]
Batches: TypeAlias = Annotated[tuple[Rows, ...], sized(1, 64)]

Share: TypeAlias = Annotated[float, between(0, 1)]
BY_KIND = -1.0
ShareOrByKind: TypeAlias = Annotated[float, between(-1, 1)]
"""a share; negative if not given: the default then depends on other keys"""
InnerShare: TypeAlias = Annotated[float, between(0, 1, open_low=True, open_high=True)]
TopP: TypeAlias = Annotated[float, between(0, 1, open_low=True)]
Dropout: TypeAlias = Annotated[float, between(0, 1, open_high=True)]
Rate: TypeAlias = Annotated[float, between(0, 1, open_low=True, open_high=True)]
"""a learning rate"""
Temperature: TypeAlias = Annotated[float, between(0, 1000, open_low=True)]
Warmth: TypeAlias = Annotated[float, between(0, 1000)]
"""a sampling temperature; 0 is greedy"""
Positive: TypeAlias = Annotated[float, between(0, 10**6, open_low=True)]
"""a weight in a sum, a norm, a number of passes"""
NotNegative: TypeAlias = Annotated[float, between(0, 10**6)]
Decay: TypeAlias = Annotated[float, between(0, 10)]
"""weight decay per step, as a multiple of the learning rate"""
Seconds: TypeAlias = Annotated[float, between(0, 10**6, open_low=True)]
Bound: TypeAlias = Annotated[float, between(0, 10**9)]
"""a limit of a budget; 0 for none"""
