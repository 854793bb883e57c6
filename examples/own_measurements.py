# %% [markdown]
# # Your own measurements
#
# How far off are the predictions for your server, and what to do about it? This notebook compares measurements
# with predictions, corrects one engine constant, and keeps the correction as a fact row. The measurements here
# are seven published ones (ML.ENERGY leaderboard 2025, vLLM on H100, median inter-token latency); put yours in
# their place.

# %%
from pathlib import Path

import flashstill as fs
from flashstill.charts import Axis, Point, scatter

MEASURED = [  # model, tensor parallelism, requests in flight, output tokens, seconds per output token
    ("qwen3-30b-a3b", 1, 8, 927, 0.01285),
    ("qwen3-30b-a3b", 1, 16, 925, 0.01755),
    ("qwen3-30b-a3b", 1, 32, 922, 0.02257),
    ("qwen3-8b", 1, 8, 649, 0.0082),
    ("qwen3-8b", 1, 32, 649, 0.0106),
    ("llama-3.1-70b", 4, 8, 354, 0.0166),
    ("llama-3.1-70b", 4, 64, 354, 0.0224),
]


def predictions(**options):
    """The prediction of each measurement."""
    return [
        fs.predict(model=model, chip="h100-sxm", tp=tp, batch=batch, isl=200, osl=osl, **options)
        for model, tp, batch, osl, _ in MEASURED
    ]


def mean_error(answers):
    """The mean size of the relative error."""
    errors = [abs(answer.tpot_s / row[-1] - 1) for answer, row in zip(answers, MEASURED, strict=True)]
    return sum(errors) / len(errors)


before = predictions()
print("model          tp  batch  measured ms  predicted ms (80 % band)   error")
for (model, tp, batch, _, seconds), answer in zip(MEASURED, before, strict=True):
    band = f"({1e3 * answer.tpot_low_s:.1f} to {1e3 * answer.tpot_high_s:.1f})"
    error = 100 * (answer.tpot_s / seconds - 1)
    print(
        f"{model:14} {tp:2}  {batch:5}  {1e3 * seconds:11.2f}  {1e3 * answer.tpot_s:12.2f} {band:14}  {error:+5.1f} %"
    )
print(f"mean error {100 * mean_error(before):.1f} %")

# %%
points = [
    Point(
        x=row[-1],
        y=answer.tpot_s,
        y_low=answer.tpot_low_s,
        y_high=answer.tpot_high_s,
        words=f"{row[0]}, batch {row[2]}",
    )
    for row, answer in zip(MEASURED, before, strict=True)
]
measured = Axis(title="measured time per token", unit="s", log=True)
scatter(points, measured, Axis(title="predicted time per token", unit="s", log=True), diagonal=True)

# %% [markdown]
# **What to see.** Points on the dashed line are predicted exactly; four bands in five should cross it.
#
# If your points lie on one side of the line, something about your server differs from those that the engine's
# constants were fitted to. A what-if on one constant shows how much it explains. Here: the time that the engine
# adds to each step.

# %%
candidates = [0.0, 0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1.5e-3, 2e-3]
errors = [mean_error(predictions(set={"engine-vllm.step_s": seconds})) for seconds in candidates]
for seconds, error in zip(candidates, errors, strict=True):
    print(f"step_s = {1e3 * seconds:4.2f} ms: mean error {100 * error:.1f} %")
best = candidates[errors.index(min(errors))]

# %% [markdown]
# The best value becomes a fact row of your own, which `facts=` (or `--facts` on the command line) puts in place
# of the one that flashstill ships. Its kind, source and date say where it came from.

# %%
folder = Path("my-facts")
folder.mkdir(exist_ok=True)
(folder / "engine.csv").write_text(
    "name,quantity,value,low,high,unit,per,condition,kind,source,as_of,note\n"
    f"engine-vllm,step_s,{best},,,s,engine,,measured,seven latencies of ML.ENERGY 2025,2026-11,\n",
    encoding="utf-8",
)
after = predictions(facts="my-facts")
print(f"mean error {100 * mean_error(before):.1f} % before, {100 * mean_error(after):.1f} % with the row of our own")

# %% [markdown]
# Larger sets belong in a directory of tables: `flashstill validate --anchors DIR` reads `serving_gpu.csv` there
# (columns
# `model,gpu,backend,isl,osl,concurrency,tp_size,pp_size,moe_ep_size,attention_dp_size,precision,tpot_ms,ttft_ms`)
# and prints errors by chip and engine.
