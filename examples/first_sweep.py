# %% [markdown]
# # A first sweep
#
# Seven lines: the energy of a token against the batch size, on two chips. They need `pip install flashstill` and
# nothing else: no GPU, no PyTorch, no network.

# %%
import flashstill as fs
from flashstill.charts import Axis, lines

energy = {}
for chip in ("h100-sxm", "tpu-v6e"):
    sweep = fs.predict(model="llama-3.1-8b", chip=chip, batch=[1, 2, 4, 8, 16, 32, 64, 128, 256])
    energy[chip] = (sweep.column("batch"), sweep.column("joules_per_output_token"))
lines(energy, Axis(title="requests in flight", log=True), Axis(title="energy of a token", unit="J", log=True))

# %% [markdown]
# **What to see.** Both lines fall almost in proportion to the batch as long as reading the weights dominates, and
# flatten once arithmetic and the KV cache, which sequences do not share, take over. The last sweep as a table:

# %%
sweep
