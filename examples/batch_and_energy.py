# %% [markdown]
# # Batch and energy
#
# A decode step reads every weight once, whether it serves one sequence or five hundred. This notebook shows where
# the energy of a token goes as the batch grows, and from which batch on weights are no longer the largest part.

# %%
import flashstill as fs
from flashstill.charts import Axis, Stack, lines, stacks

BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
steps = fs.explain(model="llama-3.1-70b", chip="h100-sxm", chips=4, precision="fp8", batch=BATCHES, context=1024)
PARTS = ("arithmetic", "weights", "kv", "links", "idle", "active")
bars = [
    Stack(name=f"batch {row['batch']}", parts={part: row[f"joules_per_token_{part}"] for part in PARTS})
    for row in steps.as_records()
]
stacks(bars, "J", "share of a token's energy", is_share=True)

# %% [markdown]
# **What to see.** At batch 1 the weights take the largest share of what is not static power; by batch 512 their
# share has nearly gone. `kv`, the KV cache, grows instead: it belongs to one sequence and no batch shares it.
#
# The same as numbers, in millijoules per token, with the picojoules that data movement and the multiplication
# itself take for each multiply-accumulate:

# %%
print("batch  weights mJ  kv mJ  total mJ  movement pJ/MAC  multiply pJ/MAC  ms per step")
for row in steps.as_records():
    millijoules = [1e3 * row[f"joules_per_token_{part}"] for part in ("weights", "kv", "total")]
    picojoules = row["pj_per_mac_movement"], row["pj_per_mac_compute"]
    print("{:5}  {:10.2f}  {:5.1f}  {:8.1f}".format(row["batch"], *millijoules), end="")
    print("  {:15.2f}  {:15.2f}  {:11.2f}".format(*picojoules, 1e3 * row["seconds"]))

# %% [markdown]
# The energy of the weights per token is exactly inversely proportional to the batch. Longer contexts move the
# balance: with 16 times the context, the cache overtakes the weights at a far smaller batch.

# %%
ratios = {}
for context in (1024, 4096, 16384):
    steps = fs.explain(
        model="llama-3.1-70b", chip="h100-sxm", chips=8, precision="fp8", batch=BATCHES[:7], context=context
    )
    ratio = [
        kv / weights
        for kv, weights in zip(
            steps.column("joules_per_token_kv"), steps.column("joules_per_token_weights"), strict=True
        )
    ]
    ratios[f"context {context}"] = (steps.column("batch"), ratio)
ratios["as much as the weights"] = (BATCHES[:7], [1.0] * 7)
lines(ratios, Axis(title="batch", log=True), Axis(title="energy of the KV cache / of the weights", log=True))

# %% [markdown]
# **What to see.** Above the level line at 1 the cache takes more energy than the weights, so that a larger batch no
# longer saves much: the remedies are then a smaller cache (fp8, grouped-query or latent attention) and not a
# larger batch.
