"""The commands that export a model and write its card."""

from __future__ import annotations

from pathlib import Path

import click

from flashstill.cli.documents import json_option, print_json
from flashstill.cli.options import DIRECTORY, writable
from flashstill.units import show

FORMATS = ("gguf",)  # exporting.py
TYPES = ("f32", "bf16", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")  # distill/export/formats.py


@click.command()
@click.argument("model")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    required=True,
    help="gguf: for llama.cpp and what is built on it.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=writable,
    required=True,
    help="The file to write.",
)
@click.option(
    "--type", "number_format", type=click.Choice(TYPES), default="bf16", show_default=True, help="Format of matrices."
)
@click.option("--base", default="", help="Base model of a LoRA adapter, if it names none on this disk.")
@json_option
def export(model: str, file_format: str, out: Path, number_format: str, base: str, as_json: bool) -> None:
    """Write a model as a file for another program.

    MODEL is a Hugging Face directory, such as a student's, a LoRA adapter, a .gguf file, or the name of a packaged
    model.
    """
    from flashstill import exporting
    from flashstill.console import Console

    done = exporting.export(
        model, out, file_format=file_format, number_format=number_format, base=base, progress=Console()
    )
    if as_json:
        print_json(done.as_dict())
        return
    kinds = ", ".join(f"{name} {show(count, 'B')}" for name, count in sorted(done.kinds.items()))
    click.echo(
        f"{done.out}: {show(done.bytes, 'B')}, architecture {done.architecture}, {done.tensors} tensors ({kinds})"
    )
    for note in done.notes:
        click.echo(f"note: {note}")


@click.command()
@click.argument("directory", type=DIRECTORY)
@click.option(
    "--records", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
    help="More results of a student, from `evaluate --out`; repeatable.",
)  # fmt: skip
@click.option("--as", "model", default="", metavar="NAME", help="What the student is called in these records.")
@click.option("--chip", "chips", multiple=True, help="Predict the price on this chip; repeatable.")
@click.option("--base-model", default="", metavar="ID", help="Its name on the Hugging Face Hub.")
@click.option("--license", "license_id", default="", metavar="ID", help="Of the student, as apache-2.0.")
@click.option("--replace", is_flag=True, help="Also where README.md is not a card as it was written.")
@json_option
def card(
    directory: Path,
    records: tuple[Path, ...],
    model: str,
    chips: tuple[str, ...],
    base_model: str,
    license_id: str,
    replace: bool,
    as_json: bool,
) -> None:
    """Write the model card of a student again, README.md in its directory.

    DIRECTORY is that of a run of `distill` or `run`, or of one of its students.
    """
    from flashstill import exporting

    done = exporting.card(
        directory,
        records=records,
        model=model,
        chips=chips,
        base_model=base_model,
        license_id=license_id,
        replace=replace,
    )
    if as_json:
        print_json(done.as_dict())
        return
    for path in done.cards:
        click.echo(str(path))
