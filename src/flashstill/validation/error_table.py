"""All comparisons of an anchor directory as one error table, and as rows of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from flashstill.errors import BadInput, unknown
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts
from flashstill.parallel import Exchange
from flashstill.validation.anchors.energy import compare_energy
from flashstill.validation.anchors.golden import golden_comparisons
from flashstill.validation.anchors.kernels import kernel_sets
from flashstill.validation.anchors.left_out import compare_left_out
from flashstill.validation.anchors.moe_at_scale import compare_moe_at_scale
from flashstill.validation.anchors.palm import compare_palm
from flashstill.validation.anchors.public import compare_public
from flashstill.validation.anchors.serving import LEAVE_OUT, compare_serving, served
from flashstill.validation.anchors.sram import compare_sram
from flashstill.validation.anchors.sweeps import compare_sweeps
from flashstill.validation.anchors.tables import WHOLE, KernelSet, anchors_of
from flashstill.validation.anchors.throughput import compare_throughput
from flashstill.validation.anchors.training import compare_training
from flashstill.validation.anchors.training_unseen import compare_unseen_training
from flashstill.validation.anchors.unseen import compare_unseen, unseen_apart
from flashstill.validation.apart import Apart
from flashstill.validation.calibration.doubtful import credible, doubtful
from flashstill.validation.calibration.selection import by_kind, by_maker, chosen, on_the_chip
from flashstill.validation.comparison import FITTED, NOT_FITTED, Comparison, ErrorRow
from flashstill.validation.kernel_times import exchange_seconds, kernel_seconds
from flashstill.validation.own_gpu import compare_own
from flashstill.validation.single_operations import compare_operations

HEADINGS = (
    "anchor",
    "quantity",
    "fitted",
    "chip",
    "engine",
    "n",
    "unanswered",
    "mean",
    "median",
    "bias",
    "in the band",
)


def comparisons_with(
    facts: Facts, anchors: Path | None, leave_out: str | None = None, simulated: bool = False
) -> list[Comparison]:
    """Comparisons with all anchors of the directory; without a directory, with the project's golden figures.

    leave_out: only served rows, predicted by engines fitted anew without each model, chip, engine or stack.
    simulated: served rows simulated at the protocol of their benchmark as well.
    """
    if leave_out is not None:
        comparisons = left_out_comparisons(facts, anchors, leave_out)
    elif anchors is None:
        comparisons = golden_comparisons(facts)
    elif anchors.is_dir():
        comparisons = all_comparisons(facts, anchors)
    else:
        raise BadInput(f"there is no directory {anchors}; leave --anchors out to validate on the golden figures")
    if not comparisons:
        raise BadInput(f"{anchors} holds no anchor file that is understood; see docs/validation.md for their names")
    if simulated:
        comparisons += simulated_comparisons(facts, anchors)
    return comparisons


def simulated_comparisons(facts: Facts, anchors: Path | None) -> list[Comparison]:
    """Served rows in no doubt, simulated; BadInput without any."""
    from flashstill.validation.simulated import compare_simulated

    if anchors is None or not (rows := served(anchors)):
        raise BadInput("--simulated simulates served rows: give --anchors DIR with serving_gpu.csv")
    return compare_simulated(facts, credible(facts, rows))


def all_comparisons(facts: Facts, anchors: Path) -> list[Comparison]:
    """Comparisons for serving, energy, training, PaLM, public tables and single kernels, for the files present."""
    readers: dict[str, Callable[[Facts, Path], list[Comparison]]] = {
        "serving": _serving,
        "energy": compare_energy,
        "public cases": compare_public,
        "cases nobody calibrated on": compare_unseen,
        "SRAM machines": compare_sram,
        "batch sweeps": compare_sweeps,
        "throughput": compare_throughput,
        "PaLM": compare_palm,
        "training": compare_training,
        "training nobody calibrated on": compare_unseen_training,
        "expert parallelism at scale": compare_moe_at_scale,
        "kernels": compare_kernels,
        "operations": compare_operations,
        "own measurements": compare_own,
    }
    comparisons: list[Comparison] = []
    for kind, compare in readers.items():
        with anchors_of(kind, anchors):
            comparisons += map(_sound, compare(facts, anchors))
    return comparisons


def _serving(facts: Facts, anchors: Path) -> list[Comparison]:
    rows = credible(facts, served(anchors))
    return [*compare_serving(facts, rows), *compare_left_out(facts, rows)] if rows else []


def left_out_comparisons(facts: Facts, anchors: Path | None, kind: str) -> list[Comparison]:
    """Served rows as fitted, and by fits made anew without each group of a kind."""
    from flashstill.validation.anchors.energy import token_served
    from flashstill.validation.calibration.engines import refitted
    from flashstill.validation.calibration.software import ServedRows

    if kind not in LEAVE_OUT:
        raise BadInput(unknown("kind of group to leave out", kind, LEAVE_OUT))
    if anchors is None or not (rows := served(anchors)):
        raise BadInput("--leave-out fits engines to served rows: give --anchors DIR with serving_gpu.csv")
    rows = credible(facts, rows)
    fitted = refitted(facts, ServedRows.of(facts, [*rows, *token_served(anchors)]), kind)
    return [*compare_serving(facts, rows), *compare_left_out(facts, rows, (kind,), fitted)]


def rows_apart(facts: Facts, anchors: Path | None) -> list[Apart]:
    """The rows of a directory that are listed apart."""
    if anchors is None or not anchors.is_dir():
        return []
    return [*doubtful(facts, served(anchors)), *unseen_apart(anchors)]


def _sound(comparison: Comparison) -> Comparison:
    """The comparison unchanged; ValueError if a measurement is not a finite number above 0."""
    if not (np.isfinite(comparison.measured) & (comparison.measured > 0)).all():
        raise ValueError(f"{comparison.anchor}: a measured {comparison.quantity} is not a number above 0")
    return comparison


def compare_kernels(facts: Facts, anchors: Path) -> list[Comparison]:
    """Comparisons by kernel kind, precision and file."""
    groups: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray, str, str]]] = {}
    timed_sets = [(chip_from_facts(facts, item.chip), item) for item in kernel_sets(facts, anchors)]
    selected = [
        (named, chosen(named[0], items))
        for of_maker in by_maker(timed_sets)
        for named, items in by_kind(of_maker).items()
    ]
    fitted = {(item.anchor, item.kind, item.precision) for _, (used, _) in selected for _, item in used}
    hosts = {(kind, condition, name) for (kind, condition), (_, names) in selected for name in names}
    labels: dict[tuple[str, str], str] = {}
    for chip, whole in timed_sets:
        by_the_host = (whole.kind, whole.precision, f"{whole.anchor} on {whole.chip}") in hosts
        for item, what in _what_it_times(whole, by_the_host):
            timed = exchange_seconds if isinstance(item.work, Exchange) else kernel_seconds
            quantity = " ".join(word for word in (item.kind, item.precision, what) if word)
            used = (item.anchor, item.kind, item.precision) in fitted
            labels[item.anchor, quantity] = FITTED if used else NOT_FITTED
            groups.setdefault((item.anchor, quantity), []).append(
                (item.seconds, timed(chip, item), item.chip, item.engine or "library")
            )
    return [
        Comparison(
            anchor=anchor,
            quantity=quantity,
            fitted=labels[anchor, quantity],
            measured=np.concatenate([part[0] for part in parts]),
            predicted=np.concatenate([part[1] for part in parts]),
            chip=tuple(part[2] for part in parts for _ in part[0]),
            engine=tuple(part[3] for part in parts for _ in part[0]),
        )
        for (anchor, quantity), parts in groups.items()
    ]


def _what_it_times(item: KernelSet, by_the_host: bool) -> list[tuple[KernelSet, str]]:
    """A set with what it times, if that is not the whole operation on the chip; a host's file is split in two."""
    if item.timed != WHOLE:
        return [(item, f"({item.timed})")]
    if not by_the_host:
        return [(item, "")]
    hidden, seen = on_the_chip(item)
    parts = [(hidden, "(launches hidden)"), (seen, "(times the host's launches)")]
    return [(part, what) for part, what in parts if len(part.seconds)]


def table_cells(rows: Sequence[ErrorRow]) -> list[tuple[str, ...]]:
    """The table as rows of text, header first."""
    return [
        HEADINGS,
        *(
            (
                row.anchor,
                row.quantity,
                row.fitted,
                row.chip,
                row.engine,
                str(row.n),
                str(row.unanswered),
                _share(row.mean_absolute_error, ".1%"),
                _share(row.median_absolute_error, ".1%"),
                _share(row.bias, "+.1%"),
                "" if row.coverage is None else f"{row.coverage:.0%}",
            )
            for row in rows
        ),
    ]


def _share(value: float | None, form: str) -> str:
    """A share in percent; a dash for None."""
    return "-" if value is None else format(value, form)
