"""Faults that once went unnoticed, and the test file that notices each now: `python -m tests.mutation.planted`."""

from __future__ import annotations

import sys

from tests.mutation.places import SOURCE, Fault, fault_of
from tests.mutation.trial import import_heavy, noticed, warm_up

Planted = tuple[str, str, str, str]
"""file, what stands there, the fault, the test file"""
PLANTED: tuple[Planted, ...] = (
    # rows of heads stay in halves where llama.cpp turns neighbouring pairs; one expert stands for all
    ("distill/export/tensors.py", "-1, rows.shape[-1]).swapaxes(1, 2)", "-1, rows.shape[-1])", "export"),
    ("distill/export/tensors.py", "for name in tensor.sources:", "for name in tensor.sources[:1] * 4:", "export"),
    # a name in a model card closes its code span; a card that was changed by hand is written over
    ("runs/cards/writing.py", 'fence = "`" * (1 + max(', 'fence = "`" * (0 * max(', "cards"),
    ("runs/cards/writing.py", "hexdigest() == mark[1]", "hexdigest() != ''", "cards"),
    # experts' memory is not spread over replicas
    ("cost/footprint.py", "(layout.tp * layout.dp * layout.pp)", "(layout.tp * layout.pp)", "planted"),
    # search ignores a bound, and accepts twice what fits
    ("plan/scenario.py", "> scenario.max_ttft_s", "> np.inf", "planted"),
    ("plan/scenario.py", "> scenario.max_tpot_s", "> np.inf", "planted"),
    ("plan/scenario.py", "< scenario.min_tokens_per_s", "< 0.0", "planted"),
    ("plan/feasible.py", "NOT_FITTING: room < batches", "NOT_FITTING: 2.0 * room < batches", "planted"),
    # the band of a chip that nobody measured is as narrow as any
    ("plan/bands.py", "(general[0] ** power, general[1] ** power)", "general", "planted"),
    # depth is not rounded to tiles
    ("cost/kernels.py", "np.ceil(operation.depth / tiling.depth) * tiling.depth", "operation.depth", "planted"),
    # an all-reduce waits half as often between domains
    ("cost/links.py", "+ calibration.scale_out_hop_s * hops", "+ calibration.scale_out_hop_s * hops / 2.0", "planted"),
    # the first token is decoded as well
    ("cost/closed_form.py", "steps = load.osl - 1.0", "steps = load.osl", "planted"),
    # activations never leave the chip; a chip never throttles
    ("cost/operations.py", "np.where(on_chip, 0.0, moved)", "np.where(on_chip, 0.0, 0.0)", "kernels"),
    ("cost/throttle.py", "np.where(over, slowed_s - seconds, 0.0)", "0.0 * slowed_s", "steps"),
    # a state is read and never written; all experts are met
    (
        "workload/recurrence.py",
        "(1.0 + self.writes) * self.sequences * self.state_values",
        "self.sequences * self.state_values",
        "operations",
    ),
    ("workload/experts.py", "self.ffn_width * self.distinct", "self.ffn_width * self.held", "operations"),
    # an owned hour: idle chips draw nothing, the server is bought twice, money is free
    ("economics/tco.py", "(watts + idle_watts(terms, chip)) *", "watts *", "tco"),
    ("economics/tco.py", "0.0 if chip.price_holds_server else chip", "chip", "tco"),
    ("economics/tco.py", "bought * dearer + building", "building", "tco"),
    # a design pays for a network; instalments of a year's end count as if they came through the year
    (
        "economics/tco.py",
        "network = (chip.purchase_usd + server)",
        "network = (chip.purchase_usd + chip.design_usd + server)",
        "tco",
    ),
    ("economics/tco.py", "np.log1p(charged) / charged, 1.0)", "1.0, 1.0)", "tco"),
    # power is paid at the limit; attention to cached tokens is free
    (
        "economics/prices.py",
        "hour = hour + (watts - price.limit_w)",
        "hour = hour + 0.0 * (watts - price.limit_w)",
        "tco",
    ),
    ("cost/closed_form.py", "0.0 if paces.cacheless_s is None else np", "0.0 * np", "tco"),
    # any fraction of a replica can be had; the API's cached tokens cost as others
    ("economics/self_hosting.py", "math.ceil(requests / (replica", "(requests / (replica", "self_hosting"),
    ("economics/token_prices.py", "self.cached * tokens.cached", "self.input * tokens.cached", "self_hosting"),
    # a pipeline has no bubble; the optimizer is not shared
    ("cost/training.py", "(stages - 1.0) / plan.interleave * slowest", "0.0 * slowest", "training_numbers"),
    ("cost/training.py", "plan.fsdp * plan.dp if plan.zero1 else plan.fsdp", "plan.fsdp", "training_numbers"),
    # a rejected draft is replaced from the target's distribution; a draft counts though one before it was rejected; a
    # step starts where a draft was accepted
    (
        "distill/generate/speculative.py",
        "draws.of(residual(p[place], drafts.q[place]))",
        "draws.of(p[place])",
        "speculative",
    ),
    ("cost/speculation.py", "np.multiply.accumulate(np.asarray(", "np.array(np.asarray(", "acceptance"),
    ("evaluate/drafts/expected.py", "here * (1.0 - taken[place, start + place])", "here", "acceptance"),
    # wrong attempts are rewarded; an attempt is its own baseline; the student is pushed away from where it began
    (
        "distill/reasoning/rewarded.py",
        "= rewards - rewards.mean(-1, keepdims=True)",
        "= rewards.mean(-1, keepdims=True) - rewards",
        "rewarded",
    ),
    ("distill/reasoning/rewarded.py", "above *= attempts / (attempts - 1)", "above *= 1.0", "rewarded"),
    (
        "distill/reasoning/rewarded.py",
        "divergence=reverse_kl, weight=kl",
        "divergence=reverse_kl, weight=-kl",
        "rewarded",
    ),
    # the student that is kept is the one with the worst figure
    (
        "distill/training/validation.py",
        "is_best = figure < self.best",
        "is_best = not self.best_step or figure > self.best",
        "validation_in_training",
    ),
)


def fault(file: str, before: str, after: str) -> Fault:
    """The fault at the one place of the file that reads so; SystemExit where there is none or another."""
    path = SOURCE / file
    text = path.read_text(encoding="utf-8")
    if text.count(before) != 1:
        raise SystemExit(f"{before!r} stands {text.count(before)} times in {file}: name its place as it reads now")
    return fault_of(path, text, text.replace(before, after), text[: text.index(before)].count("\n") + 1)


def main() -> None:
    """Print every fault that nobody noticed, and exit with their number."""
    faults = [(fault(file, before, after), f"tests/test_{test}.py") for file, before, after, test in PLANTED]
    import_heavy()
    warm_up(sorted({test for _, test in faults}))
    missed = [each for each, test in faults if not noticed(each, [test], 300.0)]
    for each in missed:
        print(f"{each.file}:{each.line}: {each.before}  ->  {each.after}")
    sys.exit(len(missed))


if __name__ == "__main__":
    main()
