# %% [markdown]
# # A first sweep
#
# Eight lines: the energy of a token against the batch size, on two chips. They need `pip install flashstill` and
# nothing else: no GPU, no PyTorch, no network.

# %%
import plotly.graph_objects as go

import flashstill as fs

figure = go.Figure(
    layout={"template": "plotly_white", "xaxis_title": "requests in flight", "yaxis_title": "J per token"}
)
for chip in ("h100-sxm", "tpu-v6e"):
    sweep = fs.predict(model="llama-3.1-8b", chip=chip, batch=[1, 2, 4, 8, 16, 32, 64, 128, 256])
    figure.add_scatter(x=sweep.column("batch"), y=sweep.column("joules_per_output_token"), name=chip)
figure.update_xaxes(type="log").update_yaxes(type="log")

# %% [markdown]
# **What to see.** Both lines fall almost in proportion to the batch as long as reading the weights dominates, and
# flatten once arithmetic and the KV cache, which sequences do not share, take over. The last sweep as a table:

# %%
sweep
