"""Human-readable results on standard output: aligned tables, quantities with readable units."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from flashstill.errors import printable
from flashstill.tables import table_lines
from flashstill.units import short_count, show

if TYPE_CHECKING:
    from flashstill.plan import Explanation, Resolved
    from flashstill.plan.answer import Answer
    from flashstill.plan.space import Configuration, SearchResult


def print_seconds(values: Mapping[str, Any]) -> None:
    """Print the parts of a step (`seconds_by`) that take any time, and their share of all of it (`seconds`)."""
    print_table(
        [("where the time goes", "", "")]
        + [
            (name, show(seconds, "s"), f"{seconds / values['seconds']:6.1%}")
            for name, seconds in values["seconds_by"].items()
            if seconds
        ]
    )


def print_table(rows: Sequence[Sequence[str]], spare: Sequence[str] = ()) -> None:
    """Print an aligned table, fitted to the terminal's width; `spare` columns are dropped first."""
    click.echo()
    for line in table_lines(rows, terminal_width(), spare):
        click.echo(line)


def terminal_width() -> int | None:
    """Terminal width in characters; None if standard output is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _rate(tokens_per_s: float) -> str:
    """Tokens a second, whole from 10 on: a prompt of a minute gives no 0 tokens/s."""
    return f"{tokens_per_s:,.0f}" if tokens_per_s >= 9.5 or tokens_per_s == 0 else f"{tokens_per_s:.3g}"


def print_explanation(explanation: Explanation) -> None:
    """Print a decode step: time and energy by term, energy to move one byte by segment, price."""
    resolved, cost, values = explanation.resolved, explanation.cost, explanation.as_dict()
    layout = _layout(values["layout"])
    tiers = " and ".join(dict.fromkeys((resolved.tier.name, resolved.conditions.cache.name)))
    click.echo(
        f"{printable(resolved.model.name)}, {short_count(resolved.model.parameters)} parameters,"
        f" on {resolved.chips} x {resolved.chip.name}{layout},"
        f" batch {explanation.batch}, context {explanation.context},"
        f" {_formats(resolved)}, from {tiers}, {_engine(values['engine'])}"
    )
    print_notes(explanation.notes)
    click.echo(
        f"\none decode step: {show(values['seconds'], 's')} (perfect machine {show(values['seconds_perfect'], 's')}),"
        f" {_rate(values['tokens_per_s'])} tokens/s, bound by {cost.bound}"
    )
    print_seconds(values)
    levels = values["joules_per_token"]
    print_table(
        [("where a token's joules go", "", "")]
        + [(name, show(joules, "J"), f"{joules / levels['total']:6.1%}") for name, joules in levels.items()]
    )
    per_mac = values["pj_per_mac"]
    print_table(
        [
            ("picojoules per multiply-accumulate", "", ""),
            ("compute", show(per_mac["compute"], "pJ"), ""),
            ("movement", show(per_mac["movement"], "pJ"), f"{per_mac['movement'] / per_mac['compute']:.3g} x compute"),
        ]
    )
    print_table(
        [("energy to move one byte, by segment", "", "")]
        + [(part, show(energy, "pJ"), "") for part, energy in values["pj_per_byte"].items()]
    )
    click.echo(f"\n{_room(values)} of {explanation.context} tokens")
    click.echo(
        f"{show(values['watts_per_chip'], 'W')} a chip;"
        f" {show(values['wall_joules_per_token'], 'J')} a token at the wall"
        f" (host and building); {_dollars(values['usd_per_million_tokens'])} per million tokens"
        f"{_hour(values['usd_per_chip_hour'], values['price_basis'])}"
    )


def _room(values: Mapping[str, Any]) -> str:
    """KV-cache bytes per token, memory available for the cache, and how many sequences fit."""
    count = values["sequences_fit"]
    return (
        f"{show(values['kv_bytes_per_token'], 'B')} of cache a token;"
        f" {show(values['cache_room_bytes'], 'B')} left for cache on all chips, for"
        f" {f'{int(count):,}' if count >= 1 else f'{count:.2g}'} sequences"
    )


def _layout(degrees: Mapping[str, int | None]) -> str:
    """The parallel degrees above 1 as "(tp4 pp2)"; empty if there are none."""
    words = " ".join(f"{name}{degree}" for name, degree in degrees.items() if degree and degree > 1)
    return f" ({words})" if words else ""


def _formats(resolved: Resolved) -> str:
    """The number formats of weights, experts and KV cache; a repeated format is named once."""
    formats = resolved.conditions.precisions
    weights = formats.linear if formats.experts == formats.linear else f"{formats.linear}, experts {formats.experts}"
    if not resolved.model.routed:
        weights = formats.linear
    words = weights if formats.kv == formats.linear else f"{weights}, cache {formats.kv}"
    return f"as published ({words})" if resolved.precision == "published" else words


def _engine(name: str) -> str:
    return "kernels alone" if name == "none" else name


def _dollars(value: float | None) -> str:
    return "no dollars" if value is None else show(value, "USD")


def _hour(usd_per_hour: float | None, basis: str) -> str:
    """The hourly price and its basis, as "at $2.00 a chip-hour (basis)"."""
    return f" ({basis})" if usd_per_hour is None else f" at {show(usd_per_hour, 'USD')} a chip-hour ({basis})"


def print_prediction(answer: Answer) -> None:
    """Print time, throughput, energy and price of serving."""
    values, asked, used = answer.figures(), answer.scenario, answer.deployment

    def known(name: str, unit: str) -> str:
        return "unknown" if values[name] is None else show(values[name], unit)

    def span(low: str, high: str, unit: str) -> str:
        return "" if values[low] is None else f"{show(values[low], unit)} to {show(values[high], unit)}"

    rows = [("predicted", "", "80 % band")]
    rows.append(("time to first token", known("ttft_s", "s"), span("ttft_low_s", "ttft_high_s", "s")))
    tpot = known("tpot_s", "s") if answer.tpot_s is not None else "none" if asked.osl == 1 else "unknown"
    rows.append(("time per output token", tpot, span("tpot_low_s", "tpot_high_s", "s")))
    low, high = values["output_tokens_per_s_low"], values["output_tokens_per_s_high"]
    rates = "" if low is None else f"{_rate(low)} to {_rate(high)} tokens/s"
    rows.append(("output", f"{_rate(values['output_tokens_per_s'])} tokens/s", rates))
    joules = span("joules_per_output_token_low", "joules_per_output_token_high", "J")
    rows.append(("energy per output token, chips", show(values["joules_per_output_token"], "J"), joules))
    rows.append(("power per chip", show(values["watts_per_chip"], "W"), ""))
    rows.append(("price per million output tokens", known("usd_per_million_output_tokens", "USD"), ""))
    rows.append(("bound by", values["bound"], ""))
    layout = _layout({name: getattr(used, name) for name in ("tp", "pp", "ep", "dp")})
    engine = f", {_engine(used.engine)}" if used.engine else ""
    if used.prefill_instances:
        layout += f" and {used.prefill_instances} x {used.prefill_chips} for prefill"
    click.echo(
        f"{printable(asked.model_name)} on {used.chips} x {used.chip}{layout}, {asked.isl} tokens in,"
        f" {asked.osl} out, {asked.batch} in flight{engine}"
    )
    print_table(rows)
    if answer.band_basis:
        click.echo(f"\nband: {answer.band_basis}")
    if answer.cache_room_bytes is not None:
        click.echo(f"\n{_room(values)} of {asked.mean_tokens:g} tokens, the mean")
    if answer.usd_per_chip_hour is not None:
        click.echo(f"\nat {show(answer.usd_per_chip_hour, 'USD')} a chip-hour ({answer.price_basis})")
    if answer.decode_step_s is not None:
        usd = answer.decode_usd_per_million_tokens
        click.echo(
            f"of which decode steps alone: {show(answer.decode_step_s, 's')} a step,"
            f" {known('decode_joules_per_token', 'J')} a token, {_dollars(usd)} per million tokens"
        )
    print_notes(answer.note)


def print_notes(notes: str | Iterable[str], on_stderr: bool = False) -> None:
    """Print each note on its own line: of several, or of a text that `joined_notes` made of them."""
    for note in filter(None, notes.split("; ") if isinstance(notes, str) else notes):
        click.echo(f"note: {printable(note)}", err=on_stderr)


def _layout_of(point: Configuration) -> str:
    layout = f"tp{point.tp} pp{point.pp} ep{point.ep} dp{point.dp}"
    layout += f" +{point.redundant_experts} experts" if point.redundant_experts else ""
    layout += f" {point.overlap}" if point.overlap != "none" else ""
    if not point.prefill_instances:
        return layout
    theirs = f"tp{point.prefill_tp} pp{point.prefill_pp} ep{point.prefill_ep} dp{point.prefill_dp}"
    return f"{layout}; prefill {point.prefill_instances} x {theirs}"


def print_plan(result: SearchResult) -> None:
    """Print the Pareto front, and how many configurations were rejected for which reason."""
    click.echo(f"{result.priced:,} configurations priced in {show(result.seconds, 's')}", err=True)
    click.echo(f"{result.evaluated:,} evaluated, {result.feasible:,} feasible, {len(result.front)} on the front")
    what = ("chips", "layout", "batch", "format, cache", "weights, cache in", "drafts")
    rows: list[tuple[str, ...]] = [(*what, "TPOT", "TTFT", "tokens/s a chip", "J/token", "$/M")]
    for point in result.front:
        layout, usd = _layout_of(point), point.usd_per_million_output_tokens
        rows.append(
            (
                f"{point.chips} x {point.chip}",
                layout,
                str(point.batch),
                f"{point.precision}, {point.kv_precision}",
                f"{point.weights_in}, {point.kv_in}",
                str(point.speculated_tokens or ""),
                "none" if point.tpot_s is None else show(point.tpot_s, "s"),
                show(point.ttft_s, "s"),
                f"{point.tokens_per_s_per_chip:,.0f}",
                f"{point.joules_per_output_token:.3g}",
                "none" if usd is None else f"{usd:.3g}",
            )
        )
    print_table(rows, spare=("drafts", "weights, cache in", "TTFT", "format, cache", "J/token", "layout"))
    for chip, price in result.prices.items():
        if price.usd_per_hour is None:
            click.echo(f"{chip}: {price.basis}, so that it cannot win on dollars")
        else:
            click.echo(f"{chip}: {show(price.usd_per_hour, 'USD')} a chip-hour ({price.basis})")
    for chip, batch in result.weights_dominate_below.items():
        if batch is not None:
            click.echo(f"{chip}: below batch {batch} most of the energy of the work goes into moving weights")
    click.echo("".join(f"{line}\n" for line in result.worth_lines), nl=False)
    for reason, count in sorted(result.infeasible.items(), key=lambda item: -item[1]):
        click.echo(f"left out, {reason}: {count:,}")
    print_notes(result.note)
