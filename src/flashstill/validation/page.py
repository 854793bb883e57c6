"""docs/validation.md: the table of errors, how to read it, the picture of served latencies, and rows listed apart."""

from __future__ import annotations

from collections.abc import Sequence

from flashstill.validation.apart import Apart, apart_cells
from flashstill.validation.comparison import ErrorRow
from flashstill.validation.error_table import table_cells


def _pictured(quantiles: Sequence[Sequence[str]], image: str) -> list[str]:
    if not quantiles:
        return []
    titles, *lines = quantiles
    return [
        "## Served latencies",
        "",
        f"![Predicted against measured time per output token and time to first token]({image})",
        "",
        "Quantiles of predicted over measured, and the share of rows whose error is within 10 and 25 %:",
        "",
        "| " + " | ".join(titles) + " |",
        "|" + "---|" * len(titles),
        *("| " + " | ".join(cells) + " |" for cells in lines),
        "",
        "## All errors",
        "",
    ]


def markdown(
    rows: Sequence[ErrorRow], apart: Sequence[Apart] = (), quantiles: Sequence[Sequence[str]] = (), image: str = ""
) -> str:
    """docs/validation.md: the table, how to read it, and the rows listed apart.

    quantiles: of predicted over measured (picture.py), beside the picture in the file `image`.
    """
    headings, *body = table_cells(rows)
    lines = [
        "# How far the predictions are off",
        "",
        "Written by `flashstill validate --out docs/validation.md` from the measurements in `anchors/`. Errors are"
        " shares of the measured value: the mean and the median of their size, and the median with its sign (positive:"
        " predicted too high). The last column says how many measurements lie inside the 80 % band of their"
        " prediction.",
        "",
        "The third column tells what a row is worth. *fitted*: coefficients were fitted to these measurements, so that"
        " the error says how well the form suits them. *left out*: the coefficients of the engines come from fits to"
        " other served rows: without the model, the chip (the kernels keep those of the chip), the engine (its"
        " siblings' mean takes its place) or the stack (model, engine, version, format, chip) that is predicted."
        " *not fitted*: no coefficient has seen the row. What a prediction of something new may be off is told by the"
        " last two. Bands of something new are quantiles over left-out rows; on NVIDIA's chips they are no narrower"
        " than those over the published cases of `serving_unseen` and the three sets after it as well, so that more"
        " than 80 % of the rows with the model, chip or stack left out are inside, and the share of the published cases"
        " is no blind one ([How it works](how-it-works.md#how-sure-it-is) has that of their first try). An engine with"
        " a version behind it (`trtllm@1.0`) has coefficients of its own; a name alone is the engine of today."
        " *simulated*: the same coefficients in a run of the benchmark itself, event by event."
        " *own measurements, not fitted*: the project measured these rows itself, with plain PyTorch (rows `own/`),"
        " which no engine's rows describe; [Measured on a GPU](gpu.md) tells how, and where the errors come from.",
        "",
        *_pictured(quantiles, image),
        "| " + " | ".join(headings) + " |",
        "|" + "---|" * len(headings),
        *("| " + " | ".join(cells) + " |" for cells in body),
        "",
    ]
    if apart:
        titles, *listed = apart_cells(apart)
        lines += [
            "## Rows listed apart",
            "",
            "Measurements that no machine can reach, that cannot be as their source states them, that repeats of the"
            " same configuration contradict, or whose source leaves open what ran: they are neither fitted nor counted"
            " above.",
            "",
            "| " + " | ".join(titles) + " |",
            "|" + "---|" * len(titles),
            *("| " + " | ".join(cells) + " |" for cells in listed),
            "",
        ]
    return "\n".join(lines)
