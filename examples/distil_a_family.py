# %% [markdown]
# # Distil a family
#
# A teacher of toy size, made here, and three students of different kinds: one with fewer layers, one narrower,
# one in four bits. One call distils, evaluates, times and prices them all. Everything takes about a minute, so
# that none of these is a good language model; `flashstill demo` does the same with a real one in ten minutes.

# %%
from pathlib import Path
from pydoc_data.topics import topics

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

import flashstill as fs
from flashstill.charts import Axis, Point, scatter

# %% [markdown]
# First a model with random weights: four small Llama blocks, and a tokenizer with 512 ids learned from CPython's
# documentation.

# %%
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(
    vocab_size=512, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
)
tokenizer.train_from_iterator(topics.values(), trainer)
PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained("random")
config = LlamaConfig(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=192,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    tie_word_embeddings=True,
    bos_token_id=0,
    eos_token_id=0,
)
set_seed(0)
model = LlamaForCausalLM(config)
model.save_pretrained("random")
print(f"{model.num_parameters():,} parameters")

# %% [markdown]
# It becomes the teacher by learning the documentation: a recipe without divergences and with a hard weight trains
# on the text alone.

# %%
TEXT = """
[text]
window_tokens = 64
train_tokens = 60_000
heldout_tokens = 2_048
out_of_domain_tokens = 2_048
"""
TEACHER = """
name = "teacher"
data = "cpython-docs"
hard_weight = 1.0
losses = []
[[teachers]]
model = "random"   # only its tokenizer and its starting point are used
[student]
kind = "copy"
[signals]
kind = "none"
[train]
tokens = 60_000
windows_per_step = 8
learning_rate = 5e-3
arithmetic = "fp32"
"""
Path("teacher.toml").write_text(TEACHER + TEXT, encoding="utf-8")
fs.distill("teacher.toml", "teacher")

# %% [markdown]
# Then the family. What stands outside `[[students]]` holds for all students; each has a control that learns from
# the text alone.

# %%
FAMILY = """
name = "toys"
teacher = "teacher/student"
data = "cpython-docs"
[train]
tokens = 20_000
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
batches = [1, 16]
context = 256
[[students]]
name = "shallow"
keep_layers = 2
[[students]]
name = "narrow"
kind = "width"
feed_forward = 64
[[students]]
name = "four-bit"
kind = "copy"
quantise = "int4"
train = { learning_rate = 1e-4 }   # it begins close to the teacher
"""
Path("family.toml").write_text(FAMILY + TEXT, encoding="utf-8")
family = fs.run("family.toml", "family")
records = family.as_records()

# %% [markdown]
# Everything that was found is a record. Here: the divergence from the teacher on held-out text, and the predicted
# energy of a token on an H100 at batch 1 without static power, which for models of this size would hide all else.

# %%
MOVED = ("arithmetic", "near_sram", "far_sram", "weights", "kv")
divergence = {
    record["model"]: record["value"]
    for record in records
    if record["record"] == "quality" and record["domain"] == "heldout" and record["metric"] == "kl_to_teacher"
}
microjoules = {
    record["model"]: 1e6 * sum(record[f"joules_per_token_{part}"] for part in MOVED)
    for record in records
    if record["record"] == "cost" and (record["chip"], record["phase"], record["batch"]) == ("h100-sxm", "decode", 1)
}
print("student   energy, uJ   KL to the teacher: distilled   hard labels   before training")
for student in ("shallow", "narrow", "four-bit"):
    kl = [divergence[f"{student}{suffix}"] for suffix in ("", "-control", "-untrained")]
    print("{:10}{:10.1f}{:30.4f}{:14.4f}{:18.4f}".format(student, microjoules[student], *kl))
print(f"teacher   {microjoules['teacher']:10.1f}")

# %%
ARMS = {"": "distilled", "-control": "hard labels", "-untrained": "before training"}
points = [
    Point(
        x=1e-6 * microjoules[name], y=divergence[f"{name}{suffix}"], label=name, words=f"{name}, {arm}", series=series
    )
    for series, (suffix, arm) in enumerate(ARMS.items(), start=1)
    for name in ("shallow", "narrow", "four-bit")
]
energy = Axis(title="predicted energy per token without static power", unit="J")
scatter(points, energy, Axis(title="KL to the teacher, nats", log=True), names=list(ARMS.values()))

# %% [markdown]
# **What to see.** Left and low is better. Every distilled student is much closer to the teacher than its control on
# labels. The student in four bits saves the most energy and stays closest, as rounding takes little from this model.
# The report, `family/report.html`, has the same plot with quality in bits per byte, and every other number.
