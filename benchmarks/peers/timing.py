"""What the three peer scripts share: time a call per configuration, print one JSON line."""

import json
import statistics
import sys
import time


def report(import_s, ask, configurations, **about):
    """Warm up with the first configuration, then time each; ask returns a time per token in seconds."""
    ask(*configurations[0])
    seconds, answers = [], []
    for configuration in configurations:
        started = time.perf_counter()
        answers.append(ask(*configuration))
        seconds.append(time.perf_counter() - started)
    line = about | {
        "import_s": round(import_s, 3),
        "n": len(seconds),
        "seconds_per_configuration": statistics.median(seconds),
        "tpot_s": answers,
    }
    print(json.dumps(line))
    sys.stdout.flush()
