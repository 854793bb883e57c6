"""All layouts and batches of one chip, precision and placement, priced in one call.

A step's cost depends only on the work of one tensor-parallel group, not on the pipeline stages or on sequences in other
groups.  So steps are priced for the distinct groups (tp, dp, ep, sequences; plan/groups.py) and looked up for every
configuration; only the closed form of serving runs over all configurations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.cost import Conditions, Load, Speculation
from flashstill.cost.admission import capacity, running_requests
from flashstill.cost.closed_form import Pace, Paces, closed_form
from flashstill.cost.load import chunks_of, prompts_together
from flashstill.cost.phases import decode_step, mixed_step, prefill_step, sends, verify_step, working_share
from flashstill.cost.serving import ending_steps
from flashstill.cost.speculation import head_share, verified_queries
from flashstill.cost.step import StepCost
from flashstill.hardware.stacked import AXES
from flashstill.parallel import Layout
from flashstill.plan.groups import Groups, distinct
from flashstill.plan.layouts import Degrees, layout_of
from flashstill.workload import Decoding, Quantity

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Layouts and batches to price. degrees: (5, layouts, 1), in the order of `Degrees`; batches: (1, batches).

    Of some configurations only (`taken`): degrees (5, configurations) and batches (configurations,).
    groups: the distinct work of one tensor-parallel group; at: the place of each configuration in it.
    refused: number of layouts that cannot be built, by reason.
    known: groups by the prompts of their passes, as found before.
    """

    degrees: Values
    batches: Values
    groups: Groups
    at: Places
    refused: Counter[str]
    known: dict[bytes, tuple[Groups, Places]] = field(default_factory=dict)

    def with_prompts(self, prompts: Values) -> tuple[Groups, Places]:
        """Distinct groups with `prompts` in place of each number of sequences; and the place of each group in them."""
        key = prompts.tobytes()
        if key not in self.known:
            self.known[key] = self.groups.alike(prompts)
        return self.known[key]

    @property
    def layout(self) -> Layout:
        """All layouts as one `Layout` of arrays."""
        return layout_of(self.degrees)

    @property
    def shape(self) -> tuple[int, ...]:
        """(layouts, batches), or (configurations,)."""
        return np.broadcast_shapes(self.degrees.shape[1:], self.batches.shape)

    def taken(self, places: Places) -> Candidates:
        """The configurations at these flat places, in a row."""
        rows, columns = np.divmod(places, self.shape[1])
        return replace(
            self,
            degrees=self.degrees[:, rows, 0],
            batches=self.batches[0, columns],
            at=self.at.reshape(-1)[places],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Priced:
    """Figures of all candidates, each of their shape; (chips, layouts, batches) for a stack of chips.

    room: sequences that fit at the same time.
    """

    pace: Pace
    room: Values


def candidates(layouts: Sequence[Degrees], refused: Counter[str], batches: tuple[int, ...]) -> Candidates:
    """Every layout combined with every batch."""
    degrees = np.array(layouts, dtype=np.float64).reshape(-1, len(Degrees._fields)).T[:, :, None]
    asked = np.array(batches, dtype=np.float64)[None, :]
    local = np.asarray(Layout(tp=degrees[0], pp=degrees[1], dp=degrees[3]).local_batch(asked))
    groups, at = distinct(degrees[:, :, 0], local)
    return Candidates(degrees=degrees, batches=asked, groups=groups, at=at, refused=refused)


class _Steps(NamedTuple):
    """Steps of distinct groups. group, at: those that decode, and each candidate's place in them; prefilling, filled:
    those that prefill, and the same.  step: with drafting; verified: without, the same one where nothing drafts."""

    group: Layout
    at: Places
    prefilling: Layout
    filled: Places
    queries: Quantity
    step: StepCost
    verified: StepCost
    mixed: StepCost
    passed: StepCost
    cacheless: StepCost | None


def priced(
    model: Architecture,
    conditions: Conditions,
    chosen: Candidates,
    load: Load,
    speculation: Speculation | None = None,
) -> Priced:
    """Time and energy of every candidate, whether or not it fits. load: its concurrency is each candidate's batch."""
    layout, load, stacked = chosen.layout, replace(load, concurrency=chosen.batches), conditions.chip.stacked
    # A stack of chips has an axis before those of layouts and batches, of which there are at most AXES.
    whole = (stacked, *(1,) * (AXES - len(chosen.shape)), *chosen.shape) if stacked else chosen.shape
    steps = _steps(model, conditions, chosen, load, speculation)
    paces = _paces(model, conditions, chosen, load, speculation, steps, whole)
    room = room_for(model, conditions, layout, load, speculation)
    batch = np.broadcast_to(chosen.batches, chosen.shape)
    running = running_requests(conditions, load, room)
    pace = closed_form(conditions, layout, load, batch, paces, speculation, running)
    if stacked:
        each = {name: _by_chip(getattr(pace, name), whole) for name in (field.name for field in fields(pace))}
        return Priced(pace=Pace(**each), room=_by_chip(room, whole))
    return Priced(pace=pace, room=np.broadcast_to(room, chosen.shape))


def _steps(
    model: Architecture, conditions: Conditions, chosen: Candidates, load: Load, speculation: Speculation | None
) -> _Steps:
    """The steps of the distinct groups of all candidates."""
    context, queries = load.context, verified_queries(speculation)
    groups, at = chosen.groups.used(chosen.at)
    group, sequences = groups.layout, groups.sequences
    prompts = prompts_together(conditions, load, sequences)
    fewer, back = chosen.with_prompts(np.asarray(prompts_together(conditions, load, chosen.groups.numbers)))
    fewer, filled = fewer.used(back[chosen.at])
    step = decode_step(model, conditions, group, sequences, context, speculation)
    passed = prefill_step(model, conditions, fewer.layout, fewer.sequences, load.computed, past=load.past)
    cacheless = None
    if load.cached:
        cacheless = prefill_step(model, conditions, fewer.layout, fewer.sequences, load.computed, past=load.spread)
    tokens = Decoding(sequences=sequences, context=context, queries=queries)
    mixed = mixed_step(model, conditions, group, tokens, chunks_of(load, prompts))
    verified = step if speculation is None else verify_step(model, conditions, group, tokens)
    return _Steps(group, at, fewer.layout, filled, queries, step, verified, mixed, passed, cacheless)


def _paces(
    model: Architecture,
    conditions: Conditions,
    chosen: Candidates,
    load: Load,
    speculation: Speculation | None,
    steps: _Steps,
    whole: tuple[int, ...],
) -> Paces:
    """The steps of groups as those of whole layouts, with what pipelines send. whole: shape of what is looked up."""
    layout, group, step, verified, mixed = chosen.layout, steps.group, steps.step, steps.verified, steps.mixed
    passed, cacheless, prefilling = steps.passed, steps.cacheless, steps.prefilling

    def looked_up(quantity: Quantity, places: Places) -> Values:
        return np.take(quantity, places, axis=-1).reshape(whole if np.ndim(quantity) > 1 else places.shape)

    def decoding(quantity: Quantity) -> Values:
        return looked_up(quantity, steps.at)

    def filling(quantity: Quantity) -> Values:
        return looked_up(quantity, steps.filled)

    def adding(more: Quantity, less: Quantity) -> Quantity:
        return decoding((more - less) / group.chips) * layout.chips

    local = layout.local_batch(chosen.batches)
    together = prompts_together(conditions, load, local)
    decoded = local * steps.queries
    after_mixed = sends(model, conditions, layout, decoded + chunks_of(load, together).tokens)
    after_step = sends(model, conditions, layout, decoded)
    after_pass = sends(model, conditions, layout, together * load.computed)
    heads = 1.0 + speculation.tokens * head_share(model) if speculation and speculation.draft is None else 1.0
    whole_joules, timed_joules = step.total_joules, step.timed_joules
    before = whole_joules if verified is step else verified.total_joules
    work = decoding((whole_joules - timed_joules) / group.chips) * layout.chips + heads * after_step.work_joules
    timed = decoding(timed_joules / group.chips) * layout.chips + heads * after_step.timed_joules
    return Paces(
        step_s=decoding(step.seconds) + heads * after_step.seconds,
        step_joules=work * working_share(model, layout, chosen.batches) + timed,
        mixed_s=decoding(mixed.seconds) + after_mixed.seconds - (decoding(verified.seconds) + after_step.seconds),
        mixed_joules=adding(mixed.total_joules, before) + (after_mixed.total_joules - after_step.total_joules),
        mixed_timed_joules=adding(mixed.timed_joules, verified.timed_joules)
        + (after_mixed.timed_joules - after_step.timed_joules),
        pass_s=filling(passed.seconds) + after_pass.seconds,
        cacheless_s=None if cacheless is None else filling(cacheless.seconds) + after_pass.seconds,
        pass_joules=filling(passed.total_joules / prefilling.chips) * layout.chips + after_pass.total_joules,
        pass_timed_joules=filling(passed.timed_joules / prefilling.chips) * layout.chips + after_pass.timed_joules,
        prompts=together,
        ending=ending_steps(model, conditions, layout, load, chosen.batches, speculation),
    )


def room_for(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    load: Load,
    speculation: Speculation | None,
) -> Values:
    """Sequences of the mean length held that fit at the same time; 0 if not even one of the full length fits."""
    alone, fitting = capacity(model, conditions, layout, load, speculation)
    return np.where(np.asarray(alone) >= 1.0, fitting, 0.0)


def _by_chip(quantity: Quantity, shape: tuple[int, ...]) -> Values:
    """An array of `shape` without the axes of length 1 behind the first: (chips, layouts, batches)."""
    return np.broadcast_to(quantity, shape).reshape(shape[0], *shape[-2:])
