# %% [markdown]
# # Chats: from messages to a served student
#
# Conversations become a student: what of them is learned, a teacher with a prompt that the student never reads, the
# evaluation of its answers, and a server that answers in the same chat format. The models are tiny and the teacher is
# trained here in seconds; with your own `messages` and a real teacher only the names change.

# %%
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

import flashstill as fs

# %% [markdown]
# **Messages.** A file of JSON lines, with a record that nobody can use. Any of the formats of
# `docs/chat.md` would do.

# %%
CHIPS = {"GPU": "HBM", "TPU": "HBM", "LPU": "SRAM", "CPU": "DRAM"}
COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def chat(chip, memory, count):
    asked = f"Where do {count} {chip}s keep their weights?"
    return {
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": f"In {memory}, {count} times."},
        ]
    }


rows = [chat(chip, memory, count) for count in COUNTS * 6 for chip, memory in CHIPS.items()]
rows = [
    {
        **row,
        "messages": [
            *row["messages"],
            {"role": "user", "content": f"Thanks, {place}."},
            {"role": "assistant", "content": "You are welcome."},
        ],
    }
    for place, row in enumerate(rows)
]
lines = [json.dumps(row) for row in [*rows, {"messages": [{"role": "user", "content": "Nobody answered."}]}]]
Path("chats.jsonl").write_text("\n".join(lines), encoding="utf-8")
others = [{"prompt": f"{n} + {n} = ", "completion": str(2 * n)} for n in range(200)]
Path("others.jsonl").write_text("\n".join(map(json.dumps, others)), encoding="utf-8")
print(len(lines), "records, and", len(others), "of another kind, which are only evaluated on")

# %% [markdown]
# **A teacher** with a chat template, in the ChatML format. It starts with random weights and learns the answers.

# %%
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=400,
    special_tokens=["<|im_end|>", "<|im_start|>", "<|endoftext|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
tokenizer.train_from_iterator([message["content"] for row in rows for message in row["messages"]], trainer)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
fast.chat_template = TEMPLATE
fast.save_pretrained("random")
set_seed(0)
LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
).save_pretrained("random")

# %% [markdown]
# **What is learned.** `flashstill data` reads the file as a distillation will, and marks what counts in the loss.


# %%
def flashstill(*words):
    """A command, as in a shell."""
    done = subprocess.run([sys.executable, "-m", "flashstill", *words], check=True, capture_output=True, text=True)
    return done.stdout


print(flashstill("data", "chats.jsonl", "--tokenizer", "random", "--show", "1"))

# %% [markdown]
# **The teacher learns the answers** (a distillation with no teacher's losses, only labels), and **the student learns
# from the teacher**, which reads a system prompt that the student does not see. Records that cannot be
# used are counted.

# %%
RECIPE = """
name = "{name}"
data = "chats.jsonl"
out_of_domain = "others.jsonl"
hard_weight = {hard}
{losses}
[[teachers]]
model = "{teacher}"
{system}
[student]
{student}
[text]
window_tokens = 96
train_tokens = 9_600
heldout_tokens = 960
out_of_domain_tokens = 960
[train]
tokens = {tokens}
windows_per_step = 8
learning_rate = 3e-3
arithmetic = "fp32"
[records]
bad_share = 0.02
"""


def distilled(name, teacher, student, tokens, hard=0.0, losses="", system=""):
    """Write a recipe and run it."""
    recipe = RECIPE.format(
        name=name, teacher=teacher, student=student, tokens=tokens, hard=hard, losses=losses, system=system
    )
    Path(f"{name}.toml").write_text(recipe, encoding="utf-8")
    return fs.distill(f"{name}.toml", name)


distilled("teacher", "random", 'kind = "copy"', 51_200, hard=1.0, losses="losses = []")
student = distilled(
    "student", "teacher/student", 'kind = "depth"\nkeep_layers = 2', 25_600, system='system = "Be exact and brief."'
)
print({key: student.summary["records"][key] for key in ("used", "skipped", "reasons")})

# %% [markdown]
# **Evaluate** on conversations: the answers are scored, and intervals are over conversations.

# %%
judged = fs.evaluate(
    {"student": "student/student", "untrained": "student/initial"}, {"chats": "chats.jsonl"},
    teacher="teacher/student", tokens=2_000, window_tokens=96, arithmetic="fp32",
)  # fmt: skip
for row in judged.as_records():
    if row["metric"] == "kl_to_teacher":
        print(f"{row['model']:10} KL to the teacher {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})")

# %% [markdown]
# **Serve** it: the directory holds the chat template, so that the server of transformers (or vLLM, or SGLang) answers
# requests of the chat API in the format that was learned.

# %%
with fs.serve("student/student", sequences=2, length=128, arithmetic="fp32") as server:
    question = {"role": "user", "content": "Where do two LPUs keep their weights?"}
    body = {"model": server.model, "messages": [question], "max_tokens": 16, "temperature": 0.0}
    request = urllib.request.Request(
        f"{server.url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        print(json.load(response)["choices"][0]["message"]["content"])
