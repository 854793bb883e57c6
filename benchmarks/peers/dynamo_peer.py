"""Replay a trace with the mocker of ai-dynamo-runtime: processor seconds of the replay, as one JSON line.

Its engine has a step time of its own (a polynomial); what is compared is the work of following every request.
"""

import csv
import json
import sys
import tempfile
import time
from pathlib import Path

BLOCK = 512

started = time.perf_counter()
from dynamo._core import run_mocker_trace_replay  # noqa: E402

import_s = time.perf_counter() - started
trace, replicas, runs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with tempfile.TemporaryDirectory() as folder:
    path, blocks = Path(folder) / "trace.jsonl", 0
    with path.open("w", encoding="utf-8") as out, trace.open(encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            prompt, output = int(row["input_tokens"]), int(row["output_tokens"])
            count = -(-prompt // BLOCK)
            line = {
                "timestamp": round(1e3 * float(row["arrival_s"])),
                "input_length": prompt,
                "output_length": output,
                "hash_ids": list(range(blocks, blocks + count)),  # no prefix is shared
            }
            blocks += count
            out.write(json.dumps(line) + "\n")
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        found = run_mocker_trace_replay(
            [str(path)], num_workers=replicas, replay_mode="offline", trace_block_size=BLOCK,
            capture_planner_details=False,
        )  # fmt: skip
        seconds.append(time.process_time() - started)
said = found.summary
print(
    json.dumps(
        {
            "import_s": round(import_s, 3),
            "seconds": min(seconds),
            "requests": said["completed_requests"],
            "input_tokens": said["total_input_tokens"],
            "output_tokens": said["total_output_tokens"],
        }
    )
)
