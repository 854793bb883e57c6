"""One estimate of aiconfigurator per configuration: prompt and decode of Qwen3-235B-A22B on eight H200."""

import logging
import sys
import time

logging.disable(logging.WARNING)
started = time.perf_counter()
from aiconfigurator.cli.api import cli_estimate  # noqa: E402

IMPORT_S = time.perf_counter() - started
from timing import report  # noqa: E402


def ask(batch, tp, ep):
    found = cli_estimate(
        "Qwen/Qwen3-235B-A22B", "h200_sxm", backend_name="trtllm", isl=1024, osl=256, batch_size=batch,
        tp_size=tp, moe_tp_size=tp // ep, moe_ep_size=ep,
    )  # fmt: skip
    return found.tpot / 1000


n = int(sys.argv[1])
asked = [(batch, 8, ep) for batch in (4, 8, 16, 32, 64, 128) for ep in (8, 4)][:n]
report(IMPORT_S, ask, asked, model="Qwen3-235B-A22B", machine="8 H200, TensorRT-LLM tables")
