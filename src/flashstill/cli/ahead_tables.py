"""What `trends`, `ceiling` and `arrays` print: tables of their documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from flashstill.errors import printable
from flashstill.units import show


def print_trends(values: Mapping[str, Any]) -> None:
    """Drivers with their bands, memories, doubling times, and the back-test."""
    from flashstill.printing import print_notes, print_table

    plan = values["roadmap"]
    click.echo(
        f"a chip that lands in {plan['year']}, by what was known at the end of {plan['as_of']}:"
        f" {plan['node_nm']:g} nm, {show(plan['usd_per_wafer']['value'], 'USD')} a wafer"
    )
    print_table([["", "value", "80 % band", "doubles in years"], *map(_driver, _drivers(values))])
    print_table(
        [
            ["memory, a stack", "bytes", "bytes/s", "pJ/bit", "$/GB"],
            *(
                [
                    name,
                    show(kind["stack_bytes"]["value"], "B"),
                    show(kind["stack_bytes_per_s"]["value"], "B/s"),
                    f"{kind['pj_per_bit']['value']:.2g}",
                    f"{kind['usd_per_byte']['value'] * 1e9:.3g}",
                ]
                for name, kind in plan["memories"].items()
            ),
        ]
    )
    print_table(
        [
            ["process", "volume", "Mtransistors/mm2", "SRAM cell um2", "energy over 7 nm", "a wafer"],
            *(
                [
                    f"{row['node_nm']:g} nm",
                    f"{row['volume_year']:.0f}",
                    _number(row["transistors_per_mm2"], 1e-6, 4),
                    _number(row["cell_um2"], 1.0, 3),
                    _number(row["logic_energy_ratio"], 1.0, 3),
                    show(row["usd_per_wafer"], "USD"),
                ]
                for row in values["processes"]
            ),
        ]
    )
    others = [trend for name, trend in values["trends"].items() if name not in plan["chips"]]
    print_table([["", "doubles in years"], *([trend["what"], _years(trend["doubling_years"])] for trend in others)])
    if values["back_test"]["guesses"]:
        _print_back_test(values["back_test"])
    print_notes(values["notes"])


def _drivers(values: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any] | None]]:
    plan, fitted = values["roadmap"], values["trends"]
    found = [(fitted[name]["what"], spread, fitted[name]) for name, spread in plan["chips"].items()]
    return [*found, ("silicon of one die", plan["die_mm2"], None), ("one package", plan["package_mm2"], None)]


def _driver(row: tuple[str, Mapping[str, Any], Mapping[str, Any] | None]) -> list[str]:
    name, spread, trend = row
    unit = spread["unit"]
    times = "" if trend is None else _years(trend["doubling_years"])
    return [
        name,
        _amount(spread["value"], unit),
        f"{_amount(spread['low'], unit)} to {_amount(spread['high'], unit)}",
        times,
    ]


def _number(value: float | None, times: float, digits: int) -> str:
    return "" if value is None else f"{value * times:.{digits}g}"


def _amount(value: float, unit: str) -> str:
    return f"{value:,.0f} mm2" if unit == "mm2" else show(value, unit)


def _years(times: Mapping[str, float | None]) -> str:
    middle, low, high = (times[name] for name in ("value", "low", "high"))
    if middle is None:
        return "never"
    ends = f"{low:.1f} to {'never' if high is None else f'{high:.1f}'}" if low is not None else ""
    return f"{middle:.1f} ({ends})"


def _print_back_test(test: Mapping[str, Any]) -> None:
    from flashstill.printing import print_table

    def vector(numbers: Mapping[str, float]) -> list[str]:
        flops, size, rate, watts = numbers.values()
        return [show(flops, "FLOP/s"), show(size, "B"), show(rate, "B/s"), show(watts, "W")]

    came = list(test["came"])
    heading = ["", "16 bits", "memory", "bandwidth", "watts", *(f"from {name}" for name in came)]
    rows = [[name, *vector(numbers), *("" for _ in came)] for name, numbers in test["came"].items()]
    rows += [
        [guess["name"], *vector(guess["vector"]), *(f"{guess['distances'][name]:.2f}" for name in came)]
        for guess in test["guesses"]
    ]
    click.echo("\nback-test: distance is the root mean square of log2 of the four ratios; 1 is a factor of two")
    print_table([heading, *rows])


def print_ceiling(values: Mapping[str, Any]) -> None:
    """One row for each memory and synchronisation, a column for each context."""
    from flashstill.printing import print_table

    rows, wanted = values["rows"], values["wanted_tokens_per_s"]
    contexts = list(dict.fromkeys(row["context"] for row in rows))
    click.echo(
        f"{printable(values['model'])}, one user, chips as {values['chip']} with all peaks reached:"
        f" {values['reached']} of {len(rows)} reach {wanted:,.0f} tokens/s"
    )
    table: dict[tuple[str, float], dict[int, Any]] = {}
    for row in rows:
        table.setdefault((row["memory"], row["sync_s"]), {})[row["context"]] = row
    heading = [
        "memory",
        "sync",
        *(f"tokens/s at {context:,}" for context in contexts),
        f"chips at {contexts[0]:,}",
        "bound by",
    ]
    lines = []
    for (memory, sync), found in table.items():
        first = next(iter(found.values()))
        cells = [_rate(found.get(context), wanted) for context in contexts]
        lines.append([memory, show(sync, "s"), *cells, f"{first['chips']:,}", first["bound"]])
    print_table([heading, *lines])
    if values["reached"]:
        click.echo("* reaches it")


def _rate(row: Mapping[str, Any] | None, wanted: float) -> str:
    if row is None:
        return "does not fit"
    return f"{row['tokens_per_s']:,.0f}{'*' if row['tokens_per_s'] >= wanted else ''}"


def print_arrays(values: Mapping[str, Any]) -> None:
    """One row for each edge."""
    from flashstill.printing import print_table

    click.echo(
        f"{printable(values['model'])}, {values['tokens']:,} tokens, {values['precision']}, {values['node_nm']} nm:"
        f" best energy x delay at {values['best_edge']} x {values['best_edge']}"
    )
    rows = [
        [
            f"{row['arrays']:,} x {row['edge']} x {row['edge']}",
            show(row["seconds"], "s"),
            f"{row['utilisation']:.0%}",
            *(show(joules, "J") for joules in row["joules"].values()),
            show(row["total_joules"], "J"),
            f"{row['energy_delay_js'] * 1e6:.3g}",
            f"{row['best_share']:.0%}",
        ]
        for row in values["rows"]
    ]
    print_table([["arrays", "time", "busy", *values["rows"][0]["joules"], "energy", "uJ s", "best in"], *rows])
