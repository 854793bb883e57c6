# %% [markdown]
# # A new chip
#
# A chip that flashstill does not know needs no code, only rows: a line in `machines.csv` and its numbers in
# another CSV file. This notebook describes an invented inference chip, prices a model on it, and asks which of
# its numbers matters.

# %%
from pathlib import Path

import flashstill as fs
from flashstill.charts import Axis, lines

folder = Path("my-facts")
folder.mkdir(exist_ok=True)
(folder / "machines.csv").write_text("name,title,maker,class,year\nmy-chip,My Chip,Me,gpu,2027\n", encoding="utf-8")
NUMBERS = [  # quantity, value, unit, per, condition
    ("flops_per_s", 6e14, "FLOP/s", "chip", "bf16 dense"),
    ("flops_per_s", 1.2e15, "FLOP/s", "chip", "fp8 dense"),
    ("memory_bytes", 9.6e10, "B", "chip", "HBM3e"),
    ("memory_bytes_per_s", 6e12, "B/s", "chip", "HBM3e"),
    ("cache_bytes", 9.6e7, "B", "chip", "last cache"),
    ("compute_units", 96, "1", "chip", ""),
    ("link_bytes_per_s", 4.5e11, "B/s", "chip", "one direction"),
    ("torus_axes", 0, "1", "chip", "0 = switched"),
    ("link_domain_chips", 8, "1", "chip", ""),
    ("scale_out_bytes_per_s", 5e10, "B/s", "chip", "one direction"),
    ("power_limit_w", 450, "W", "chip", ""),
    ("idle_w", 80, "W", "chip", ""),
    ("process_nm", 4, "nm", "die", ""),
    ("die_mm2", 600, "mm2", "package", ""),
    ("usd_purchase", 18000, "USD", "chip", ""),
]
rows = ["name,quantity,value,low,high,unit,per,condition,kind,source,as_of,note"]
for quantity, value, unit, per, condition in NUMBERS:
    rows.append(f"my-chip,{quantity},{value:g},,,{unit},{per},{condition},estimate,invented here,2026-11,")
(folder / "my-chip.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
print("\n".join(rows[:4]))

# %% [markdown]
# That is all. The chip is now known to every function by `facts=`, and to every command by `--facts my-facts`. A
# row that is missing and needed is named in the error; nothing is assumed.

# %%
CHIPS = ["h100-sxm", "h200-sxm", "my-chip"]
BATCHES = [1, 4, 16, 64, 128]
sweep = fs.predict(
    model="qwen3-32b", chip=CHIPS, chips=2, batch=BATCHES, precision="fp8", price="owned", facts="my-facts"
)
dollars = {}
for chip in CHIPS:
    own = [row for row in sweep.as_records() if row["chip"] == chip and row["fits"]]
    dollars[chip] = ([row["tpot_s"] for row in own], [row["usd_per_million_output_tokens"] for row in own])
time = Axis(title="time per output token", unit="s", log=True)
lines(dollars, time, Axis(title="dollars per million output tokens", unit="USD", log=True), dots=CHIPS)

# %% [markdown]
# **What to see.** Each line is one chip from batch 1 (top) to 128. Left and low is better. Prices are those of
# owning the chips (purchase price over their lifetime, with power), as nobody rents out an invented chip.

# %%
sweep

# %% [markdown]
# Which of the numbers is worth improving? A what-if edits one of them by 20 %:

# %%
base = fs.predict(model="qwen3-32b", chip="my-chip", chips=2, batch=32, precision="fp8", facts="my-facts")
print(f"as described                   {1e3 * base.tpot_s:.2f} ms per token")
for quantity, value in {
    "memory_bytes_per_s": 7.2e12,
    "link_bytes_per_s": 5.4e11,
    "flops_per_s[fp8]": 1.44e15,
}.items():
    edited = fs.predict(
        model="qwen3-32b",
        chip="my-chip",
        chips=2,
        batch=32,
        precision="fp8",
        facts="my-facts",
        set={f"my-chip.{quantity}": value},
    )
    change = 100 * (edited.tpot_s / base.tpot_s - 1)
    print(f"20 % more {quantity:20} {1e3 * edited.tpot_s:.2f} ms per token ({change:+.1f} %)")

# %% [markdown]
# **What to see.** Arithmetic matters twice as much as bandwidth. Decode steps are bound by memory, but every token
# also waits for the prefills of other requests, which are bound by arithmetic. Faster links would hardly help.
