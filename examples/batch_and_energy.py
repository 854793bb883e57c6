# %% [markdown]
# # Batch and energy
#
# A decode step reads every weight once, whether it serves one sequence or five hundred. This notebook shows where
# the energy of a token goes as the batch grows, and from which batch on weights are no longer the largest part.

# %%
import plotly.graph_objects as go

import flashstill as fs

BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
steps = fs.explain(model="llama-3.1-70b", chip="h100-sxm", chips=4, precision="fp8", batch=BATCHES, context=1024)
PARTS = ("arithmetic", "weights", "kv", "links", "idle", "active")
figure = go.Figure(layout={"template": "plotly_white", "barmode": "stack"})
for part in PARTS:
    shares = [
        100 * joules / total
        for joules, total in zip(
            steps.column(f"joules_per_token_{part}"), steps.column("joules_per_token_total"), strict=True
        )
    ]
    figure.add_bar(x=[str(batch) for batch in steps.column("batch")], y=shares, name=part)
figure.update_xaxes(title="batch").update_yaxes(title="share of a token's energy, %")

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
figure = go.Figure(
    layout={"template": "plotly_white", "xaxis_title": "batch", "yaxis_title": "KV cache / weights, energy"}
)
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
    figure.add_scatter(x=steps.column("batch"), y=ratio, name=f"context {context}")
figure.add_hline(y=1, line_dash="dot")
figure.update_xaxes(type="log").update_yaxes(type="log")

# %% [markdown]
# **What to see.** Above the dotted line the cache takes more energy than the weights, so that a larger batch no
# longer saves much: the remedies are then a smaller cache (fp8, grouped-query or latent attention) and not a
# larger batch.
