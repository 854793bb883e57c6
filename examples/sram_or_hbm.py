# %% [markdown]
# # SRAM or HBM?
#
# On-chip SRAM is an order of magnitude faster than HBM, but so small that a model has to be spread over many
# chips, which then wait for each other. `search` tries every layout and both memories, separately for weights and
# cache.

# %%
import flashstill as fs
from flashstill.charts import Axis, Front, Point, scatter

MODEL, CHIP = "llama-3.2-1b", "tpu-v6e"
found = {
    name: fs.search(model=MODEL, chips=CHIP, max_chips=64, osl=256, engine="none", batches=[16], tiers=tiers)
    for name, tiers in {"HBM only": ["memory"], "HBM or SRAM": ["memory", "sram"]}.items()
}
points, fronts = [], []
for series, (name, result) in enumerate(found.items(), start=1):
    rows = result.as_records()
    points += [
        Point(
            x=row["tpot_s"],
            y=row["joules_per_output_token"],
            words=f"{name}: {row['chips']} chips, weights in {row['weights_in']}",
            series=series,
        )
        for row in rows
    ]
    fronts.append(Front(points=[(row["tpot_s"], row["joules_per_output_token"]) for row in rows], series=series))
time = Axis(title="time per output token", unit="s", log=True)
energy = Axis(title="energy per output token", unit="J", log=True)
scatter(points, time, energy, fronts=fronts, names=list(found))

# %% [markdown]
# **What to see.** Left and low is better. The fastest points need SRAM; HBM alone does not reach them with any
# number of chips up to 64. Speed costs energy: every chip that is added waits for the others part of the time.

# %%
found["HBM or SRAM"]

# %% [markdown]
# How large may a model be? The same question for growing models, 16 users each, the fastest configuration per
# memory.

# %%
print("model         fastest with HBM   fastest with SRAM allowed")
for model in ("llama-3.2-1b", "llama-3.2-3b", "qwen3-8b", "qwen3-32b"):
    words = []
    for tiers in (["memory"], ["memory", "sram"]):
        result = fs.search(model=model, chips=CHIP, max_chips=64, osl=256, engine="none", batches=[16], tiers=tiers)
        best = min(result.as_records(), key=lambda row: row["tpot_s"])
        words.append(f"{1e3 * best['tpot_s']:.2f} ms, {best['chips']:2} chips ({best['weights_in']})")
    print(f"{model:12}  {words[0]:24}  {words[1]}")

# %% [markdown]
# **What to see.** As the model grows, it takes more chips to hold it in SRAM, until the SRAM of 64 chips (each
# has 134 MB) no longer suffices and the answer is HBM again.
