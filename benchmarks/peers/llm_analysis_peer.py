"""One inference analysis of llm-analysis per configuration: Mixtral 8x7B, from its published config, on eight H100."""

import json
import sys
import tempfile
import time
from pathlib import Path

started = time.perf_counter()
from llm_analysis.analysis import infer  # noqa: E402

IMPORT_S = time.perf_counter() - started
from timing import report  # noqa: E402

MIXTRAL = {
    "name": "mixtral-8x7b", "num_layers": 32, "n_head": 32, "hidden_dim": 4096, "vocab_size": 32000,
    "max_seq_len": 32768, "num_key_value_heads": 8, "ffn_embed_dim": 14336, "expansion_ratio": 3.5,
    "model_type": "mixtral", "moe_num_experts": 8, "moe_top_k": 2,
}  # fmt: skip

with tempfile.TemporaryDirectory() as folder:
    config = Path(folder) / "mixtral.json"
    config.write_text(json.dumps(MIXTRAL))

    def ask(batch, tp):
        found = infer(
            model_name=str(config), gpu_name="h100-sxm-80gb", batch_size_per_gpu=batch, tp_size=tp, seq_len=1024,
            num_tokens_to_generate=256, flops_efficiency=0.7, hbm_memory_efficiency=0.8, log_level="ERROR",
        )  # fmt: skip
        return found["total_decode_latency"] / 256

    n = int(sys.argv[1])
    asked = [(batch, tp) for batch in (4, 8, 16, 32, 64, 128) for tp in (8, 4)][:n]
    report(IMPORT_S, ask, asked, model="Mixtral 8x7B", machine="8 H100, roofline")
