"""How fast the explorer's page answers: processor seconds of each view as a slider moves, and the first picture.

    python benchmarks/explore_speed.py [--json]

Each view is asked in states that were not asked before, as a slider does.  `edit` moves a number of the chip, for which
chips are built anew; `first` is a whole process: imports, fact rows, server, page, script and the first view.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flashstill.explore.answers import Answers
from flashstill.explore.starting import answers_of

REPEATS = 12
SLIDERS = {
    "model": ("batch={}", lambda step: 20 + step),
    "chips": ("batch={}", lambda step: 20 + step),
    "front": ("max_tpot={}", lambda step: 0.01 + 0.005 * step),
    "numbers": ("max_tpot={}", lambda step: 0.01 + 0.005 * step),
    "placement": ("context={}", lambda step: 1000 + 10 * step),
    "byte": ("batch={}", lambda step: 20 + step),
    "edit": ("view=model&set=h100-sxm.memory_bytes_per_s%3D{}", lambda step: (3.0 + 0.1 * step) * 1e12),
    "front of a mixture, 16 chips": (
        "view=front&model=deepseek-v3&chips_from=h200-sxm&max_chips=16&max_tpot={}",
        lambda step: 0.02 + 0.005 * step,
    ),
}  # fmt: skip
"""name -> the query of a state, and the slider's value at a step"""


def milliseconds(answers: Answers, name: str, query: str, value: Callable[[int], float]) -> list[float]:
    """Processor milliseconds of the answers to a slider, the first one left out."""
    spent = []
    for step in range(REPEATS):
        asked = query.format(value(step))
        if "view=" not in asked:
            asked = f"view={name}&{asked}"
        view = answers.state(asked).view
        began = time.process_time()
        answers.view_json(view, asked)
        spent.append((time.process_time() - began) * 1e3)
    return spent[1:]


def first_picture() -> Iterator[tuple[str, float]]:
    """Wall seconds from the start of the command, and from the page's request, to the first view."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "flashstill", "explore", "--no-browser", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        told = ""
        while not told.endswith("}\n"):
            told += process.stdout.readline()
        document = json.loads(told)
        token = document["url"].partition("?")[2]
        listening = time.perf_counter()
        for path in ("/", "/page.css", "/page.js", "/states", "/view/model"):
            connection = http.client.HTTPConnection("127.0.0.1", document["port"], timeout=30)
            connection.request("GET", f"{path}?{token}")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, path
            connection.close()
        yield "from the command to the first view, wall s", time.perf_counter() - began
        yield "from the request to the first view, wall s", time.perf_counter() - listening
        if shutil.which("chromium") and importlib.util.find_spec("websocket"):
            yield from in_a_browser(document)
        process.terminate()


def in_a_browser(document: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Seconds from a request of the page to its first picture, by the browser's own clock; nothing without Chromium."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.browser import browser

    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as tab:
        for what in ("first", "second"):
            tab.open(document["url"])
            tab.until("performance.getEntriesByName('drawn').length")
            drawn = tab.run("performance.getEntriesByName('drawn')[0].startTime")
            yield f"from the request to the {what} picture in Chromium, wall s", drawn / 1e3


def main() -> None:
    """Print a table, or one JSON line."""
    answers = answers_of()
    spent = {name: milliseconds(answers, name, *slider) for name, slider in SLIDERS.items()}
    firsts = dict(first_picture())
    if "--json" in sys.argv:
        medians = {name: statistics.median(values) for name, values in spent.items()}
        print(json.dumps({"benchmark": "explore_speed", "processor_ms": medians, "first": firsts}))
        return
    print(f"{'slider':32} {'median':>8} {'most':>8}   processor ms of {REPEATS - 1} answers")
    for name, values in spent.items():
        print(f"{name:32} {statistics.median(values):8.1f} {max(values):8.1f}")
    for what, seconds in firsts.items():
        print(f"{what}: {seconds:.2f}")


if __name__ == "__main__":
    main()
