"""A program that is started like vLLM and answers like it, or misbehaves as FAKE_ENGINE says.

well: answers at once.  dies: prints a reason and ends.  mute: listens and never answers /health.  refuses: answers 400.
late: ends once there is a file that FAKE_ENGINE_END names.  clings: ignores SIGTERM, and leaves a process in a session
of its own, whose id is in the file that FAKE_ENGINE_CHILD names.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODE = os.environ.get("FAKE_ENGINE", "well")


class Handler(BaseHTTPRequestHandler):
    """/health and /v1/completions."""

    def do_GET(self) -> None:
        if MODE == "mute":
            time.sleep(60.0)
        self._answer(200, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if MODE == "refuses":
            self._answer(400, {"error": "no such model"})
            return
        self._answer(200, {"choices": [{"text": "a"}]})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002
        pass


def _end_when_told() -> None:
    while not Path(os.environ["FAKE_ENGINE_END"]).exists():
        time.sleep(0.02)
    os._exit(3)


def main() -> None:
    print("loading", sys.argv[1:], flush=True)
    if MODE == "dies":
        print("ValueError: head size 8 is not supported", flush=True)
        sys.exit(1)
    if MODE == "clings":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        Path(os.environ["FAKE_ENGINE_CHILD"]).write_text(str(child.pid))
    if MODE == "late":
        threading.Thread(target=_end_when_told, daemon=True).start()
    host, port = (sys.argv[sys.argv.index(name) + 1] for name in ("--host", "--port"))
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
