"""A headless Chromium driven over its DevTools protocol: load a page, press keys, run a script, look at what it said.

A test that needs one skips where there is none, unless FLASHSTILL_REQUIRE_BROWSER is set, as CI does.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 180.0
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
KEYS = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38,
    "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


def lacks(what: str) -> None:
    """Skip the test, or fail it where a browser is required."""
    if os.environ.get("FLASHSTILL_REQUIRE_BROWSER"):
        pytest.fail(f"{what}, and CI requires one")
    pytest.skip(what)


class Page:
    """One tab: its commands, and all that it logged, requested and threw."""

    def __init__(self, address: str) -> None:
        import websocket

        self.socket = websocket.create_connection(address, timeout=PATIENCE_S, suppress_origin=True)
        self.counter = itertools.count(1)
        self.complaints: list[str] = []
        """errors of the console, refusals of the content security policy, exceptions"""
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **values: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is noted."""
        number = next(self.counter)
        self.socket.send(json.dumps({"id": number, "method": method, "params": values}))
        while True:
            heard = json.loads(self.socket.recv())
            if heard.get("id") == number:
                assert "error" not in heard, f"{method}: {heard['error']}"
                answer: dict[str, Any] = heard["result"]
                return answer
            self._note(heard)

    def _note(self, heard: dict[str, Any]) -> None:
        method, values = heard.get("method"), heard.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = values["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(each.get("value")) for each in values["args"]))
        elif method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{values['entry']['text']} {values['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])

    def open(self, address: str) -> None:
        """Go there from an empty page, and wait until it is loaded."""
        self.ask("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.ask("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression, a promise awaited."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until a condition holds in the page."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with contextlib.suppress(AssertionError):  # between two documents there is none
                if self.run(f"!!({condition})"):
                    return
            time.sleep(0.03)
        pytest.fail(f"the page never came to: {condition}\n{self.complaints}")

    def press(self, key: str, shift: bool = False) -> None:
        """Press and let go of a key, as on a keyboard."""
        values = {"key": key, "windowsVirtualKeyCode": KEYS[key], "code": "Space" if key == " " else key}
        values |= {"modifiers": 8 if shift else 0}
        text = {"Enter": "\r", " ": " "}.get(key)
        down = {**values, "text": text} if text else values
        self.ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **down)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **values)

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.ask("Input.insertText", text=text)

    def appear(self, width: int = 1280, height: int = 900, dark: bool = False, still: bool = True) -> None:
        """The window's size and the reader's preferences."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.ask("Emulation.setEmulatedMedia", features=features)

    def picture(self, path: Path, whole: bool = True) -> None:
        """A PNG of the window, or of the whole page."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def check_accessible(self, *, where: str, with_contrast: bool = True) -> None:
        """axe-core finds nothing serious or critical. with_contrast: its longest check, of every text's colours."""
        if not self.run("!!window.axe"):
            self.run(axe_source() + "; 1")
        options = {"resultTypes": ["violations"], "rules": {"color-contrast": {"enabled": with_contrast}}}
        found = self.run(f"axe.run(document, {json.dumps(options)}).then(answer => answer.violations)")
        grave = [
            f"{each['id']} ({each['impact']}): {each['help']}: {[node['html'][:160] for node in each['nodes'][:4]]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        assert not grave, f"{where}: {grave}"


def axe_source() -> str:
    """axe-core's script, from the test-only package that carries it."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        lacks("no axe-core here (make setup installs it)")
        raise AssertionError
    return Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8")


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A Chromium with a new profile, and its first tab."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        lacks("no Chromium on this machine (Debian: apt-get install chromium)")
        raise AssertionError
    if importlib.util.find_spec("websocket") is None:
        lacks("no websocket-client here (make setup installs it)")
    command = [found, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        page = Page(_tab(profile / "DevToolsActivePort"))
        try:
            yield page
        finally:
            page.socket.close()
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)


def _tab(told: Path) -> str:
    """The address of the first tab, once the browser wrote down on which port it listens."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        port = told.read_text(encoding="utf-8").split("\n")[0] if told.exists() else ""
        if port:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE_S) as answer:
                for each in json.load(answer):
                    if each["type"] == "page":
                        return str(each["webSocketDebuggerUrl"])
        time.sleep(0.05)
    pytest.fail("Chromium opened no tab")
