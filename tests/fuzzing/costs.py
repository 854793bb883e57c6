"""Bad questions to the cost arm: configurations, case files, fact tables, what-if edits and options."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path
from typing import Any

import click

from flashstill.facts.csv_files import COLUMNS
from tests.fuzzing import mangle
from tests.fuzzing.corpus import Corpus
from tests.fuzzing.sandbox import Trial

CHIPS = ("h100-sxm", "h200-sxm", "b200", "mi300x", "tpu-v5e", "tpu-v5p", "groq-lpu", "a100-80g", "b100", "wse-3")
MODELS = ("llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3", "gpt-oss-120b", "qwen3-0.6b", "llama-3.1-70b")
GOOD = {
    "model": MODELS, "chip": CHIPS, "chips_from": ("h100-sxm", "h100-sxm,tpu-v5e"), "max_chips": ("1", "8"),
    "batch": ("1", "16"), "context": ("128", "4096"), "isl": ("128", "2048"), "osl": ("1", "128"), "tp": ("1", "8"),
    "pp": ("1", "2"), "dp": ("1", "4"), "ep": ("1", "8"), "concurrency": ("1", "64"), "precision": ("bf16", "fp8"),
    "kv_precision": ("fp8",), "engine": ("vllm", "none"), "memory": ("memory", "sram"), "chips": ("1", "8"),
    "draft": ("heads", "qwen3-0.6b"), "count": ("1", "8"), "emit": ("vllm", "trtllm", "compose:sglang"),
    "pick": ("tpot", "dollars"), "draft_tokens": ("1", "1,3"),
}  # fmt: skip
CASE_COLUMNS = (
    "model", "chip", "chips", "tp", "pp", "ep", "dp", "topology", "precision", "kv_precision", "weights_in", "kv_in",
    "isl", "osl", "concurrency", "chunk", "draft", "draft_tokens", "acceptance", "engine", "sampling",
)  # fmt: skip


def _question(chance: random.Random, model: str, chip: str) -> tuple[str, ...]:
    if chance.random() < 0.5:
        return ("explain", "--model", model, "--chip", chip, "--batch", chance.choice(("1", "7", "64")))
    return ("predict", "--model", model, "--chip", chip, "--tp", chance.choice(("1", "2", "8")))


def _json(chance: random.Random) -> tuple[str, ...]:
    return ("--json",) if chance.random() < 0.6 else ()


def configs(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """A model's configuration with a few wrong places, or damaged as a file."""
    good = corpus.configs[chance.choice(sorted(corpus.configs))]
    written = mangle.as_json(chance, mangle.document(chance, good))
    if chance.random() < 0.1:
        written = mangle.damaged(chance, written)
    path = folder / "config.json"
    path.write_bytes(written)
    return Trial(kind="configs", arguments=(*_question(chance, str(path), chance.choice(CHIPS)), *_json(chance)))


def cases(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """A CSV of cases with strange cells and headings."""
    columns = ["model", "chip", *chance.sample(CASE_COLUMNS[2:], chance.randint(0, 6))]
    for name in ("mine", "fits", "note", "=heading", "ttft_s", "", columns[-1]):
        if chance.random() < 0.06:
            columns.append(name)
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(columns)
    for _ in range(chance.randint(0, 6)):
        cells = [
            mangle.text(chance) if chance.random() < 0.2 else chance.choice(GOOD.get(name, ("",))) for name in columns
        ]
        if chance.random() < 0.05:
            cells = cells[:-1] if chance.random() < 0.5 else [*cells, "more"]
        writer.writerow(cells)
    written = stream.getvalue().encode("utf-8", "surrogatepass")
    source, out = folder / "cases.csv", folder / "answers.csv"
    source.write_bytes(mangle.damaged(chance, written) if chance.random() < 0.15 else written)
    arguments = ("predict", "--cases", str(source), "--out", str(out), *_json(chance))
    return Trial(kind="cases", arguments=arguments, answers=out)


def facts(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """A user's chip, copied from a known one, with rows lost or wrong; sometimes a known chip's own rows replaced."""
    from flashstill.facts import load

    table = load()
    name = chance.choice(CHIPS)
    rows = [{column: getattr(fact, column) for column in COLUMNS} for fact in table.of(name)]
    renamed = chance.random() < 0.7
    for row in rows:
        row["name"] = "mychip" if renamed else name
    for _ in range(chance.randint(0, 4)):
        rows.pop(chance.randrange(len(rows)))
        if len(rows) < 2:
            break
    for _ in range(chance.randint(0, 2)):
        row, column = chance.choice(rows), chance.choice(COLUMNS)
        row[column] = mangle.text(chance)
        if column == "value" and chance.random() < 0.7:
            wrong = chance.choice(("0", "-1", "1e-300", "1e300", "1"))
            row.update(value=wrong, low=wrong, high=wrong)
    place = folder / "facts"
    place.mkdir()
    machine = table.machines[name]
    about: list[Any] = ["mychip", "My chip", "me", machine.chip_class, machine.year]
    if chance.random() < 0.2:
        about[chance.randrange(5)] = mangle.text(chance)
    _table(place / "chips.csv", COLUMNS, [[row[column] for column in COLUMNS] for row in rows], chance)
    _table(place / "machines.csv", ("name", "title", "maker", "class", "year"), [about], chance)
    asked = _question(chance, chance.choice(MODELS), "mychip" if renamed else name)
    return Trial(kind="facts", arguments=(*asked, "--facts", str(place), *_json(chance)))


def _table(path: Path, columns: tuple[str, ...], rows: list[list[Any]], chance: random.Random) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([columns, *rows])
    written = stream.getvalue().encode("utf-8", "surrogatepass")
    path.write_bytes(mangle.damaged(chance, written) if chance.random() < 0.05 else written)


ANCHORS = {
    "serving_gpu": (
        "model,gpu,precision,isl,osl,concurrency,tp_size,pp_size,attention_dp_size,moe_ep_size,backend,ttft_ms,tpot_ms",
        "qwen3-8b,h100_sxm,fp8,1024,128,4,1,1,1,,vllm,25.9,8.2",
    ),
    "kernels_h100_sxm_vllm_gemm": (
        "version,kernel_source,gemm_dtype,m,n,k,latency", "0.24.0,linear,bfloat16,4096,65536,16384,10.621"
    ),
    "collectives_gpu": ("gpu,device,op,gpus,message_size,latency_us", "a100_sxm,A100,all_gather,2,256,8.98"),
    "batch_length_sweeps": (
        "hardware,num,framework,model,isl,osl,batch,latency_s",
        "Nvidia A100 GPU,1,Deepspeed-MII,meta-llama/Llama-2-7b-hf,128,128,1,2.7285",
    ),
}  # fmt: skip


def anchors(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """Tables of measurements with strange cells and columns."""
    place = folder / "anchors"
    place.mkdir()
    name = chance.choice(sorted(ANCHORS))
    rows = [line.split(",") for line in (ANCHORS[name][0], *[ANCHORS[name][1]] * chance.randint(1, 3))]
    for _ in range(chance.randint(1, 2)):
        row = chance.choice(rows if chance.random() < 0.3 else rows[1:])
        row[chance.randrange(len(row))] = mangle.text(chance)
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    written = stream.getvalue().encode("utf-8", "surrogatepass")
    (place / f"{name}.csv").write_bytes(mangle.damaged(chance, written) if chance.random() < 0.2 else written)
    return Trial(kind="anchors", arguments=("validate", "--anchors", str(place), *_json(chance)))


def traces(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """A trace of requests with strange cells, or strange settings of traffic and scheduler."""
    rows = [["arrival_s", "input_tokens", "output_tokens", "cached_tokens"]]
    for at in range(chance.randint(0, 8)):
        rows.append([str(at), str(chance.randint(1, 900)), str(chance.randint(1, 40)), "0"])
    for _ in range(chance.randint(0, 2)):
        row = chance.choice(rows)
        row[chance.randrange(4)] = mangle.text(chance)
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    written = stream.getvalue().encode("utf-8", "surrogatepass")
    if chance.random() < 0.4:
        written = _json_trace(chance)
    path = folder / "trace.csv"
    path.write_bytes(mangle.damaged(chance, written) if chance.random() < 0.15 else written)
    arguments: tuple[str, ...] = ("simulate", "--model", chance.choice(MODELS), "--chip", chance.choice(CHIPS))
    arguments += ("--trace", str(path)) if chance.random() < 0.7 else ("--rate", "3", "--requests", "30")
    for name, good in SETTINGS.items():
        if chance.random() < 0.15:
            arguments += (name, chance.choice(good) if chance.random() < 0.7 else mangle.text(chance))
    return Trial(kind="traces", arguments=tuple(_no_nul(each) for each in (*arguments, *_json(chance))))


def _json_trace(chance: random.Random) -> bytes:
    """JSON lines as Mooncake's with a few wrong places."""
    lines = []
    for at in range(chance.randint(0, 8)):
        prompt = chance.randint(1, 4000)
        names = [chance.choice((0, i, 100 * at + i)) for i in range(-(-prompt // 512))]
        row: Any = {
            "timestamp": at * 500,
            "input_length": prompt,
            "output_length": chance.randint(1, 40),
            "hash_ids": names,
        }
        lines.append(mangle.as_json(chance, mangle.document(chance, row) if chance.random() < 0.3 else row))
    return b"\n".join(lines)


SETTINGS = {
    "--scheduler": ("chunked", "prefill-first"), "--step-tokens": ("1", "64", "8192"), "--sequences": ("1", "7", "256"),
    "--block-tokens": ("1", "16", "256"), "--replicas": ("1", "3"), "--router": ("two-choices", "prefix"),
    "--osl": ("1", "20"), "--isl": ("1", "700"), "--cv": ("0.1", "8"), "--least-ratio": ("0", "0.5"),
    "--cached-ratio": ("0", "1"), "--speed": ("0.5", "1e6"), "--max-ttft": ("1ms", "9"),
    "--hash-block": ("512", "16"), "--prefix-cache": ("lru", "off"), "--prefix-margin": ("0", "9"),
    "--preemption": ("swap", "recompute"),
    "--engine": ("trtllm", "sglang"),
}  # fmt: skip


def measured(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """A user's measured cases with strange cells, compared or made into facts."""
    columns = ["model", "chip", "tp", "engine", "concurrency", "measured_tpot_ms", "measured_ttft_ms"]
    rows = [columns]
    for _ in range(chance.randint(0, 3)):
        rows.append([chance.choice(MODELS), chance.choice(CHIPS), "8", "vllm", "8", "9.5", "120"])
    for _ in range(chance.randint(0, 2)):
        row = chance.choice(rows)
        row[chance.randrange(len(row))] = mangle.text(chance)
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    written = stream.getvalue().encode("utf-8", "surrogatepass")
    path = folder / "measured.csv"
    path.write_bytes(mangle.damaged(chance, written) if chance.random() < 0.15 else written)
    if chance.random() < 0.5:
        return Trial(kind="measured", arguments=("validate", "--measured", str(path), *_json(chance)))
    return Trial(kind="measured", arguments=("calibrate", str(path), "--out", str(folder / "mine"), *_json(chance)))


def edits(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """What-if edits of any number of a chip, its class, or of things that do not exist."""
    from flashstill.facts import load

    table = load()
    chip = chance.choice(CHIPS)
    owners = (chip, table.machines[chip].chip_class, "server", "facility", "engine-vllm", "routing", "wire", "mac")
    arguments: tuple[str, ...] = ()
    for _ in range(chance.randint(1, 2)):
        owner = chance.choice(owners) if chance.random() < 0.9 else mangle.text(chance)
        known = sorted({fact.quantity for fact in table.of(owner)}) or ["usd_per_hour"]
        quantity = chance.choice(known) if chance.random() < 0.9 else mangle.text(chance)
        condition = (
            f"[{chance.choice(('fp8', 'bf16', 'fp8 dense', mangle.text(chance)))}]" if chance.random() < 0.2 else ""
        )
        amount = chance.choice(
            ("0", "-1", "1e-300", "1e300", "1", "5", "1e12", "5TB/s", "80GB", "300W", mangle.text(chance))
        )
        arguments += ("--set", f"{owner}.{quantity}{condition}={amount}")
    asked = _question(chance, chance.choice(MODELS), chip)
    return Trial(kind="edits", arguments=tuple(_no_nul(each) for each in (*asked, *arguments, *_json(chance))))


def flags(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """A command of the cost arm with some of its options, each good or strange."""
    from flashstill.cli import cli

    name = chance.choice(("explain", "predict", "plan", "chips", "models", "validate", "report"))
    if chance.random() < 0.02:
        return Trial(kind="flags", arguments=(_no_nul(mangle.text(chance)),))
    arguments: list[str] = [name]
    for option in cli.commands[name].params:
        if isinstance(option, click.Argument):
            arguments += [mangle.text(chance)] if chance.random() < 0.7 else []
            continue
        if chance.random() > (0.97 if option.required or option.name in ("model", "chip") else 0.12):
            continue
        arguments.append(option.opts[0])
        if isinstance(option, click.Option) and not option.is_flag:
            good = GOOD.get(option.name or "")
            arguments.append(chance.choice(good) if good and chance.random() < 0.75 else _named(chance, option, folder))
    if name == "validate" and "--anchors" not in arguments and "--measured" not in arguments:
        arguments.append("--golden")  # all measurements take a quarter of a minute
    return Trial(kind="flags", arguments=tuple(_no_nul(each) for each in arguments))


def _named(chance: random.Random, option: click.Option, folder: Path) -> str:
    """A strange value; of a file that is written, one inside the folder."""
    strange = mangle.text(chance)
    if option.name == "out":
        return chance.choice((str(folder / "out.csv"), str(folder), "/dev/null", str(folder / "no" / "such"), ""))
    return strange


def _no_nul(argument: str) -> str:
    """No operating system passes these on."""
    return argument.replace("\x00", "")
