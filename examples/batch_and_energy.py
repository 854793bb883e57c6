# %% [markdown]
# # Batch and energy
#
# Text.

# %%
import plotly.graph_objects as go

print("hi")
go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
