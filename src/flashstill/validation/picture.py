"""Predicted against measured latencies of served rows as a small SVG file, and the same in numbers.

Each panel is one quantity, measured to the right and predicted upwards, both logarithmic: every row as fitted, as
predicted without its model, and simulated, where the comparison has these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flashstill.validation.anchors.serving import SERVING
from flashstill.validation.comparison import Comparison, Values

PANELS = {"tpot_s": "time per output token", "ttft_s": "time to first token"}
SERIES = {
    "": ("fitted", "#1f66bd"),
    ", model left out": ("model left out", "#c2571a"),
    ", simulated": ("simulated", "#3a8f4d"),
}
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
SIDE, LEFT, TOP, GAP, FOOT = 340, 56, 30, 74, 44


def series_of(comparisons: Sequence[Comparison]) -> dict[str, dict[str, Comparison]]:
    """Comparisons of served rows: panel -> label -> comparison."""
    own = {each.quantity: each for each in comparisons if each.anchor == SERVING and len(each.measured)}
    return {
        name: {label: own[f"{name}{suffix}"] for suffix, (label, _) in SERIES.items() if f"{name}{suffix}" in own}
        for name in PANELS
        if name in own
    }


def quantile_cells(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Quantiles of predicted over measured, as rows of text, header first."""
    rows = [("quantity", "predictions", "n", *(f"{share:.0%}" for share in QUANTILES), "within 10 %", "within 25 %")]
    for name, lines in series_of(comparisons).items():
        for label, each in lines.items():
            ratios = each.predicted / each.measured
            inside = (f"{float(np.mean(np.abs(ratios - 1.0) <= reach)):.0%}" for reach in (0.1, 0.25))
            ends = (f"{float(value):.2f}" for value in np.quantile(ratios, QUANTILES))
            rows.append((PANELS[name], label, str(len(ratios)), *ends, *inside))
    return rows


def picture(comparisons: Sequence[Comparison]) -> str:
    """The SVG file; empty if there is no served row."""
    panels = series_of(comparisons)
    if not panels:
        return ""
    parts = [
        _panel(PANELS[name], lines, LEFT + place * (SIDE + GAP)) for place, (name, lines) in enumerate(panels.items())
    ]
    width, height = LEFT + len(panels) * (SIDE + GAP), TOP + SIDE + FOOT
    style = (
        "text{font:12px system-ui,sans-serif;fill:#55544e}.g{stroke:#dddcd4}.s{stroke:#77766f;stroke-dasharray:4 3}"
        "path{fill:none;stroke-width:2.6;stroke-linecap:round;stroke-opacity:.45}"
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img'>"
        f"<title>Predicted against measured latencies of served models</title><style>{style}</style>"
        f"<rect width='{width}' height='{height}' fill='#fcfcfa'/>{''.join(parts)}</svg>\n"
    )


def _panel(name: str, lines: dict[str, Comparison], left: float) -> str:
    values = np.concatenate([np.concatenate([each.measured, each.predicted]) for each in lines.values()])
    low, high = math.log10(float(values.min())) - 0.05, math.log10(float(values.max())) + 0.05
    foot = TOP + SIDE

    def along(seconds: Values) -> Values:
        placed: Values = SIDE * (np.log10(seconds) - low) / (high - low)
        return placed

    parts = [f"<text x='{left}' y='{TOP - 10}'>{name}</text>"]
    for power in range(math.ceil(low), math.floor(high) + 1):
        at = SIDE * (power - low) / (high - low)
        text = f"{10.0**power:g} s" if power >= 0 else f"{10.0 ** (power + 3):g} ms"
        parts.append(
            f"<line class='g' x1='{left + at:.1f}' x2='{left + at:.1f}' y1='{TOP}' y2='{foot}'/>"
            f"<line class='g' x1='{left}' x2='{left + SIDE}' y1='{foot - at:.1f}' y2='{foot - at:.1f}'/>"
            f"<text x='{left + at:.1f}' y='{foot + 15}' text-anchor='middle'>{text}</text>"
            f"<text x='{left - 5}' y='{foot - at + 4:.1f}' text-anchor='end'>{text}</text>"
        )
    parts.append(f"<line class='s' x1='{left}' y1='{foot}' x2='{left + SIDE}' y2='{TOP}'/>")
    for place, (label, each) in enumerate(lines.items()):
        colour = next(shade for title, shade in SERIES.values() if title == label)
        x, y = left + along(each.measured), foot - along(each.predicted)
        dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x, y, strict=True))
        parts.append(f"<path stroke='{colour}' d='{dots}'/>")
        parts.append(f"<text x='{left + 8}' y='{TOP + 16 + 15 * place}' style='fill:{colour}'>{label}</text>")
    parts.append(f"<text x='{left + SIDE / 2}' y='{foot + 34}' text-anchor='middle'>measured</text>")
    return "".join(parts)
