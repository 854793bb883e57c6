# %% [markdown]
# # From student to endpoint
#
# A tiny student is distilled, served and measured under load; the measurement becomes facts, with which the simulation
# predicts loads that it had not seen, beside what they were measured to be. Everything takes about two minutes; with a
# student of your own, on a machine of your own, only the numbers change.

# %%
import os
import subprocess
import sys
from pathlib import Path

os.environ["NUMBA_DISABLE_JIT"] = "1"  # the runs are so short that compiling the event loop would take longer

from pydoc_data.topics import topics

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

import flashstill as fs
from flashstill.charts import Axis, lines

# %% [markdown]
# **The student.** The teacher is a model with random weights, as it is not the answers that matter here; the student
# keeps two of its four blocks. `fs.run` distils and evaluates it.

# %%
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(
    vocab_size=512, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
)
tokenizer.train_from_iterator(topics.values(), trainer)
PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained("teacher")
set_seed(0)
LlamaForCausalLM(
    LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
).save_pretrained("teacher")

FAMILY = """
name = "toy"
teacher = "teacher"
data = "cpython-docs"
[text]
window_tokens = 64
train_tokens = 4_096
heldout_tokens = 512
out_of_domain_tokens = 512
[train]
tokens = 4_096
windows_per_step = 8
learning_rate = 1e-3
arithmetic = "fp32"
[search]
windows = 2
candidates = 2
[measure]
batches = [1]
context = 64
repeats = 1
[cost]
chips = ["h100-sxm"]
batches = [1]
context = 256
[[students]]
name = "half"
keep_layers = 2
"""
Path("family.toml").write_text(FAMILY, encoding="utf-8")
fs.run("family.toml", "family")
student = Path("family/students/half")
print(*sorted(path.name for path in student.iterdir()))

# %% [markdown]
# **This machine** becomes a chip, `this-machine`: its speed in matrix products, its bandwidth, its overhead. The
# commands `flashstill measure`, `serve`, `calibrate` and `simulate` do the same as the calls of this notebook.


# %%
def flashstill(*words):
    """A command, as in a shell."""
    subprocess.run([sys.executable, "-m", "flashstill", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


flashstill("measure", "--arithmetic", "fp32")

# %% [markdown]
# **The server** is that of transformers with continuous batching, for at most eight requests of 128 tokens. It is
# measured with 1, 3 and 10 requests in flight (two of ten always wait), and, to compare later, with 6 and 12.

# %%
ISL, OSL, SEQUENCES, REQUESTS = 48, 8, 8, 12
SEEN, UNSEEN = [1, 3, 10], [6, 12]
asked = {"isl": ISL, "osl": OSL, "requests": REQUESTS, "warm_up": False, "tokenizer": str(student)}
with fs.serve(student, sequences=SEQUENCES, length=128, arithmetic="fp32") as server:
    print(server.url, "answers after", f"{server.ready_s:.0f} s")
    seen, unseen = (
        fs.measure_server(server.url, concurrency=loads, out=out, **asked)
        for loads, out in ((SEEN, "seen"), (UNSEEN, "unseen"))
    )
limits = {"cache_blocks": server.settings.blocks, "step_tokens": server.settings.step_tokens}

# %% [markdown]
# **Calibrate.** The summary of the measured loads becomes facts of this stack: this model, on this chip, with this
# engine. The fit runs the simulation itself, so it tells waiting from slow steps.

# %%
stack = {"chip": "this-machine", "engine": "transformers", "precision": "fp32"}
cells = [f"--case={name}={value}" for name, value in {"model": student, **stack}.items()]
options = [f"--{name.replace('_', '-')}={value}" for name, value in limits.items()]
flashstill("calibrate", "seen/summary.json", "--out", "facts", *cells, *options)

# %% [markdown]
# **Predict the loads that were not used**, with these facts and without them, and compare.


# %%
def predicted(load, facts):
    """The simulation of a load, by the protocol of the measurement."""
    traffic = {"concurrency": load, "requests": REQUESTS, "isl": ISL, "osl": OSL}
    return fs.simulate(model=str(student), **stack, **limits, **traffic, facts=facts)


rows = []
for level in unseen.levels:
    load = int(level.level.value)
    before, after = predicted(load, ()), predicted(load, "facts")
    for name in ("ttft_s", "tpot_s"):
        figures = [answer.latencies[name].percentiles[50][0] for answer in (before, after)]
        real = level.latencies[name].percentiles[50].value
        rows.append((load, f"{name[:-2]} p50, ms", *(1e3 * each for each in (real, *figures))))
    output = [answer.output_tokens_per_s for answer in (before, after)]
    rows.append((load, "output tokens/s", level.output_tokens_per_s, *output))
print("in flight  figure            measured   cost model alone   calibrated on other loads")
for load, figure, real, alone, own in rows:
    print(
        f"{load:9}  {figure:16} {real:9.1f}   {alone:9.1f} {alone / real - 1:+6.0%}   {own:9.1f} {own / real - 1:+6.0%}"
    )

# %%
series = {
    name: ([level.level.value for level in levels], [level.output_tokens_per_s for level in levels])
    for name, levels in (("measured, calibrated on", seen.levels), ("measured, not used", unseen.levels))
}
curve = [1, 2, 3, 4, 6, 8, 10, 12]
series["simulated"] = (curve, [predicted(load, "facts").output_tokens_per_s for load in curve])
lines(
    series, Axis(title="requests in flight"), Axis(title="output tokens per second", from_zero=True), dots=list(series)
)

# %% [markdown]
# **What to see.** The cost model alone knows this machine's kernels but not what an engine adds to each step, which for
# a model of this size is nearly everything. With three measured loads, the others follow, and so does the knee: the
# output stops growing at eight requests in flight, the server's limit, where the rest begin to wait. How near it comes
# depends on how quiet the machine is: on a busy one, the same load measured twice differs by tens of percent.
