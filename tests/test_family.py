"""The thread as a user pulls it: one command from recipe to report, killed and resumed, opened in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flashstill.recipes import read_recipe
from flashstill.records import CostRecord, MeasuredRecord, ModelRecord, QualityRecord, read_records
from tests.browser import browser
from tests.commands import Cli, listening
from tests.task_files import COLOURS, write_task
from tests.tiny import family_text

pytestmark = pytest.mark.slow
STUDENTS = ("half", "half-control", "most", "most-control")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path, sample_text: str, other_text: str
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One uninterrupted run of the tiny family, and what it printed."""
    folder = tmp_path_factory.mktemp("family")
    (folder / "corpus.txt").write_text(sample_text, encoding="utf-8")
    recipe = folder / "family.toml"
    (folder / "other.txt").write_text(other_text, encoding="utf-8")
    write_task(folder, COLOURS)
    tasks = '[evaluate]\ntasks = ["task.yaml"]\n'
    recipe.write_text(family_text(tiny_teacher, "corpus.txt") + tasks, encoding="utf-8")
    done = run(recipe, folder / "out", folder / "home", "--json")
    assert done.returncode == 0, done.stderr
    return folder, done


def command(recipe: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "flashstill", "run", str(recipe), "--out", str(out), *more]


def run(recipe: Path, out: Path, home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FLASHSTILL_HOME": str(home)}
    return subprocess.run(
        command(recipe, out, *more), capture_output=True, text=True, timeout=1200, env=environment, check=False
    )


def student_bytes(out: Path) -> dict[str, bytes]:
    return {name: (out / "students" / name / "model.safetensors").read_bytes() for name in STUDENTS}


def test_everything_is_there(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = finished
    out = folder / "out"
    document = json.loads(done.stdout)
    assert len(document["findings"]) == 6
    assert Path(document["report"]).is_file()
    assert read_recipe(out / "family.toml") == read_recipe(folder / "family.toml"), "paths included"
    records = read_records(out / "records.jsonl")
    roles = {record.model: record.role for record in records if isinstance(record, ModelRecord)}
    assert len(roles) == 7
    quality = [record for record in records if isinstance(record, QualityRecord)]
    scores = {(each.model, each.metric): each for each in quality if each.domain == "colours"}
    assert set(scores) == {(name, metric) for name in ("teacher", *STUDENTS) for metric in ("acc", "acc_norm")}
    assert all(each.chance == pytest.approx(1 / 3) and each.documents == 4 for each in scores.values())
    assert len(quality) == 7 * 2 * 4 + len(scores)
    assert 'value="colours: acc"' in (out / "report.html").read_text()
    assert not list((out / "stages").glob("*.unfinished"))
    assert sum(isinstance(record, MeasuredRecord) for record in records) == 3 * 2 * 2
    assert sum(isinstance(record, CostRecord) for record in records) == 3 * 2 * (2 * 3 + 2)
    assert not (out / "signals").exists()
    assert not list(out.rglob("*.part"))


def test_students_load_in_plain_transformers_and_generate(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name in STUDENTS:
        path = finished[0] / "out" / "students" / name
        assert not [file for file in path.iterdir() if file.suffix in (".bin", ".pt", ".py")]
        model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        inputs = tokenizer("The cache number", return_tensors="pt")
        assert model.generate(**inputs, max_new_tokens=5).shape[1] > inputs["input_ids"].shape[1]


def test_running_again_does_nothing(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "students").rglob("*")}
    again = run(folder / "family.toml", folder / "out", folder / "home")
    assert again.returncode == 0
    assert "tokens/s" not in again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "out" / "students").rglob("*")}


@pytest.mark.parametrize("moment", ["distil half:", "train half-control:", "distil most:"])
def test_sigkill_during_training_changes_nothing(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, moment: str
) -> None:
    folder, _ = finished
    out, environment = tmp_path / "out", {**os.environ, "FLASHSTILL_HOME": str(tmp_path / "home")}
    name = moment.split()[1].rstrip(":")
    stays = [sys.executable, "-c", STAYS, name, *command(folder / "family.toml", out)[3:]]
    with subprocess.Popen(
        stays, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(moment):
                wait_for_a_checkpoint(out / "training" / name)
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not (out / "report.html").exists()
    done = run(folder / "family.toml", out, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert student_bytes(out) == student_bytes(folder / "out")
    assert not list(out.rglob("*.part"))


STAYS = """
import sys, time
from flashstill.cli import main
from flashstill.distill.training import loop
write = loop.write
def write_and_stay(directory, *given):
    write(directory, *given)
    if sys.argv[1] in directory.parts:
        time.sleep(600)
loop.write = write_and_stay
main(sys.argv[2:])
"""
"""a run that stays where it is when it has written a checkpoint of a student, however fast the machine is"""


def wait_for_a_checkpoint(folder: Path) -> None:
    until = time.monotonic() + 600
    while not list(folder.glob("step-*")):
        assert time.monotonic() < until
        time.sleep(0.002)


def test_interrupting_is_said_in_a_sentence(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    environment = {**os.environ, "FLASHSTILL_HOME": str(tmp_path / "home")}
    with listening(command(finished[0] / "family.toml", tmp_path / "out"), env=environment) as process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            if line.startswith("distil half") and not any(each.startswith("distil half") for each in lines):
                process.send_signal(signal.SIGINT)  # once: a second one ends it without a sentence
            lines.append(line)
    assert process.returncode == 130
    assert "interrupted" in lines[-1]
    assert "Traceback" not in "".join(lines)


def test_another_family_is_refused(finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    folder, _ = finished
    changed = folder / "changed.toml"
    changed.write_text((folder / "family.toml").read_text().replace("seed = 3", "seed = 4"), encoding="utf-8")
    done = run(changed, folder / "out", tmp_path)
    assert done.returncode == 2
    assert "belongs to another recipe (seed was 3)" in done.stderr


def test_a_full_disk(finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        done = run(finished[0] / "family.toml", small / "out", tmp_path)
        assert done.returncode == 2, done.stderr
        assert "the disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(small.rglob("*.part"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_family_without_controls(finished: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = finished
    recipe = folder / "plain.toml"
    text = (folder / "family.toml").read_text(encoding="utf-8")
    text = text.replace("[text]", '[search]\nmethod = "influence"\n\n[text]').replace(
        "seed = 3", "seed = 3\ncontrol = false"
    )
    recipe.write_text(text[: text.index('[[students]]\nname = "most"')], encoding="utf-8")
    done = run(recipe, tmp_path / "out", tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "No control was trained" in done.stdout
    assert len(done.stdout.splitlines()) == 6
    assert sorted(path.name for path in (tmp_path / "out" / "students").iterdir()) == ["half"]
    assert (tmp_path / "out" / "report.html").is_file()


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browse(page: Path, profile: Path, *options: str, fragment: str = "") -> subprocess.CompletedProcess[str]:
    found = next((browser for name in BROWSERS if (browser := shutil.which(name))), None)
    if found is None:
        if os.environ.get("FLASHSTILL_REQUIRE_BROWSER"):
            pytest.fail("no Chromium, and CI requires one")
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return subprocess.run(
        [
            found, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=8000", *options,
            f"{page.as_uri()}#{fragment}",
        ],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def test_the_report_renders_in_a_browser_without_a_network(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    page = finished[0] / "out" / "report.html"
    shown = browse(page, tmp_path / "profile", "--dump-dom")
    dom = shown.stdout
    assert 'data-drawn="true"' in dom, shown.stderr[-2000:]
    assert charts_shown(dom) == 6, "two of quality against cost, two of joules, one of this machine, one of training"
    chips = len(re.findall(r"<option>", page.read_text(encoding="utf-8")))
    assert dom.count('class="chart"') == chips * (5 * 2 + 2) + 2, "every chip and quality is on the page"
    assert page.stat().st_size < 500_000
    for text in ("half-control", "Where each joule goes", "batch 256", "How it was made"):
        assert text in dom
    assert "Uncaught" not in shown.stderr
    assert "Refused to" not in shown.stderr
    source = page.read_text(encoding="utf-8")
    outside = [part for part in source.split('src="')[1:] + source.split("src='")[1:] if part.startswith("http")]
    assert not outside


def charts_shown(dom: str) -> int:
    found = re.search(r'data-charts="(\d+)"', dom)
    assert found
    return int(found[1])


def test_a_view_of_the_report_has_an_address(finished: tuple[Path, Any], tmp_path: Path) -> None:
    page = finished[0] / "out" / "report.html"
    chips = re.findall(r"<option>([^<]+)</option>", page.read_text(encoding="utf-8"))
    shown = browse(page, tmp_path / "profile", "--dump-dom", fragment=f"chip={chips[-1]}&metric=agreement")
    visible = re.findall(r'<div class="pair" data-chip="([^"]+)" data-metric="([^"]+)">', shown.stdout)
    assert visible == [(chips[-1], "agreement")]
    assert charts_shown(shown.stdout) == 6


def test_the_report_is_accessible_and_follows_its_choices(finished: tuple[Path, Any], tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as tab:
        tab.open((finished[0] / "out" / "report.html").as_uri())
        tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        for width, dark in ((1280, False), (1280, True), (390, False)):
            tab.appear(width=width, dark=dark)
            tab.check_accessible(where=f"{width} px, {'dark' if dark else 'light'}")
        assert tab.run("document.documentElement.scrollWidth") <= 390
        tab.run("document.querySelector('select[name=metric]').focus()")
        tab.press("ArrowDown")
        tab.until("location.hash.includes('metric=kl_to_teacher')")
        shown = "[...document.querySelectorAll('[data-metric]:not([hidden])')].map((each) => each.dataset.metric)"
        assert tab.run(shown) == ["kl_to_teacher"]
        assert not tab.complaints


@pytest.mark.parametrize("option", ["--force-dark-mode", "--window-size=390,844"])
def test_dark_and_narrow(finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, option: str) -> None:
    picture = tmp_path / "page.png"
    browse(finished[0] / "out" / "report.html", tmp_path / "profile", option, f"--screenshot={picture}")
    assert picture.stat().st_size > 10_000


def test_hostile_names_are_shown_and_not_run(finished: tuple[Path, Any], tmp_path: Path) -> None:
    from flashstill.report.page import render

    out = finished[0] / "out"
    provenance = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    provenance["command"] = provenance["corpus"] = "<script>document.title='owned'</script>"
    recipe = (out / "family.toml").read_text(encoding="utf-8") + "# </pre><script>document.title='owned'</script>\n"
    page = tmp_path / "page.html"
    page.write_text(render(read_records(out / "records.jsonl"), provenance, recipe), encoding="utf-8")
    assert "<script>document.title" not in page.read_text(encoding="utf-8")


def test_the_report_can_be_written_again(finished: tuple[Path, Any], cli: Cli) -> None:
    page = finished[0] / "out" / "report.html"
    before = page.read_text(encoding="utf-8")
    assert cli("report", finished[0] / "out").returncode == 0
    assert page.read_text(encoding="utf-8") == before
