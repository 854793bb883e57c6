"""One prompt and one decode step of GenZ per configuration: Mixtral 8x7B on eight H100."""

import sys
import time

started = time.perf_counter()
from GenZ import decode_moddeling, prefill_moddeling  # noqa: E402

IMPORT_S = time.perf_counter() - started
from timing import report  # noqa: E402


def ask(batch, tp, ep):
    shared = {
        "model": "mixtral_8x7b", "system_name": "H100_GPU", "bits": "bf16", "tensor_parallel": tp,
        "expert_parallel": ep, "input_tokens": 1024,
    }  # fmt: skip
    prefill_moddeling(batch_size=1, **shared)
    found = decode_moddeling(batch_size=batch, output_tokens=256, Bb=1, **shared)
    return found["Latency"] / 1000


n = int(sys.argv[1])
asked = [(batch, 8 // ep, ep) for batch in (4, 8, 16, 32, 64, 128) for ep in (1, 2)][:n]
report(IMPORT_S, ask, asked, model="Mixtral 8x7B", machine="8 H100, roofline")
